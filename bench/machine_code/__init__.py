"""The kernels' machine code, executed without a GPU: what it computes, and what that costs."""
