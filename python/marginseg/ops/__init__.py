"""The ops: checks, schema, CPU kernel, fake kernel and autograd formula of each in one file."""
