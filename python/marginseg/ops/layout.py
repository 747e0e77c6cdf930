"""The order in which a tensor's spatial axes lie in memory."""

from __future__ import annotations

from torch import Tensor


def as_it_lies(values: Tensor, n: int) -> tuple[Tensor, bool]:
    """Return a tensor so that it is contiguous, where that moves nothing.

    The n spatial axes of what comes from a NIfTI file lie in memory in the reverse order. Whoever
    takes them so goes through memory in its order; a contiguous copy would move every value.

    Args:
        values: (*leading, *spatial).
        n: How many axes are spatial.

    Returns:
        The same values, with the spatial axes reversed if they lie so; and whether they do.

    Example:
        >>> import torch
        >>> values, reverse = as_it_lies(torch.zeros(4, 3, 2).permute(2, 1, 0), 3)
        >>> values.shape, reverse
        (torch.Size([4, 3, 2]), True)

    """
    if values.is_contiguous():
        return values, False
    reverse = reverse_axes(values, n)
    return (reverse, True) if reverse.is_contiguous() else (values, False)


def reverse_axes(values: Tensor, n: int) -> Tensor:
    """Return a view with the last n axes in the reverse order."""
    leading = values.ndim - n
    return values.permute(*range(leading), *range(values.ndim - 1, leading - 1, -1))
