"""Which axes of an array are those of space, where nobody says so."""

from __future__ import annotations

from collections.abc import Sequence

from marginseg.numbers import integer


def spatial_axes(shape: Sequence[int], spatial_dims: int | None = None, *, least: int = 1) -> int:
    """Return how many trailing axes of an array are those of space.

    Without ``spatial_dims`` all are, if that leaves no doubt. Of four axes or more some belong to
    cases or channels; and so may the first of three, if its size is 1.

    Args:
        shape: Of the array, without the axes that are known to be others.
        spatial_dims: How many; None where the caller has not been told.
        least: The least that makes sense.

    Raises:
        TypeError: ``spatial_dims`` is no integer.
        ValueError: It is needed, or out of its range.

    Example:
        >>> spatial_axes((64, 64)), spatial_axes((2, 1, 64, 64), 2)
        (2, 2)
        >>> spatial_axes((1, 64, 64))
        Traceback (most recent call last):
        ValueError: spatial_dims: needed for shape (1, 64, 64), whose first axis may be a ...

    """
    n = len(shape)
    if spatial_dims is None:
        if n > 3:
            reason = "of which up to 3 axes are spatial: give their number"
        elif n == 3 and shape[0] == 1:
            reason = "whose first axis may be a channel: give 2, or 3 if it is spatial"
        else:
            return n
        raise ValueError(f"spatial_dims: needed for shape {tuple(shape)}, {reason}")
    given = integer("spatial_dims", spatial_dims)
    if not least <= given <= n:
        raise ValueError(
            f"spatial_dims: expected {least} to {n} for shape {tuple(shape)}, got {given}"
        )
    return given
