"""What the channels of a probability map stand for, and which labels its classes have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classes:
    """The foreground classes of a map (K, *spatial), in the order of their channels.

    A softmax has classes that exclude each other, and mostly a channel of the background. A sigmoid
    has classes that may overlap, such as a tumour and its core: each is a set of label values, and
    a label map is made of their masks by painting one over the other.

    Attributes:
        names: The name of each class, all different.
        channels: The channel of each, increasing.
        values: The label values that make up each class.
        exclusive: Whether a voxel has one class at most.
        background: The channel of the background, if there is one. Exclusive classes only.
        painted: The value that each class is painted with in a label map, in the classes' order: a
            later one covers those before. None where classes that overlap have no label map.
        ignored: The label value of voxels that nobody labelled, if there is one.

    Raises:
        ValueError: The classes contradict themselves.

    Example:
        >>> tumour = Classes.regions({"whole": (1, 2), "core": (2,)}, painted=(1, 2))
        >>> tumour.targets(np.array([0, 1, 2])).tolist()
        [[False, True, True], [False, False, True]]
        >>> tumour.paint(np.array([[False, True, True], [False, False, True]])).tolist()
        [0, 1, 2]

    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    values: tuple[tuple[int, ...], ...]
    exclusive: bool
    background: int | None = None
    painted: tuple[int, ...] | None = None
    ignored: int | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0:
            raise ValueError("classes: expected at least one of the foreground, got none")
        if len(set(self.names)) != count:
            raise ValueError(f"classes: expected names that differ, got {', '.join(self.names)}")
        if not count == len(self.channels) == len(self.values):
            raise ValueError("classes: expected a channel and values for each name")
        if list(self.channels) != sorted(set(self.channels)) or self.channels[0] < 0:
            raise ValueError(f"classes: expected increasing channels, got {self.channels}")
        if not all(self.values):
            raise ValueError("classes: expected a value for each name")
        known = [value for values in self.values for value in values] + list(self.painted or ())
        if not all(0 <= value < 2**31 for value in known):
            raise ValueError(f"classes: expected label values from 0 to 2^31 - 1, got {known}")
        if self.background is not None and self.background < 0:
            raise ValueError(f"classes: expected a background's channel, got {self.background}")
        if self.background is not None and (not self.exclusive or self.background in self.channels):
            raise ValueError("classes: expected a background only beside classes that exclude it")
        if self.painted is not None and len(self.painted) != count:
            raise ValueError(f"classes: expected {count} painted values, got {self.painted}")
        if self.exclusive and any(len(values) != 1 for values in self.values):
            raise ValueError("classes: expected one value for each class that excludes the others")

    @classmethod
    def softmax(cls, names: Sequence[str], *, ignored: int | None = None) -> Classes:
        """Return exclusive classes 1, 2, ... behind a channel 0 of the background."""
        numbers = tuple(range(1, len(names) + 1))
        values = tuple((number,) for number in numbers)
        return cls(tuple(names), numbers, values, True, 0, numbers, ignored)

    @classmethod
    def regions(
        cls,
        values: dict[str, tuple[int, ...]],
        *,
        painted: Sequence[int] | None = None,
        ignored: int | None = None,
    ) -> Classes:
        """Return classes that may overlap, one a channel, each with its label values."""
        order = None if painted is None else tuple(painted)
        channels = tuple(range(len(values)))
        return cls(tuple(values), channels, tuple(values.values()), False, None, order, ignored)

    @property
    def channel_count(self) -> int:
        """The channels that a map has at least."""
        return max(*self.channels, -1 if self.background is None else self.background) + 1

    def targets(self, label: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where each class is in a label map: (classes, *spatial), ordered as it is."""
        backwards = label.flags.f_contiguous and not label.flags.c_contiguous
        array = label.T if backwards else label
        masks = np.empty((len(self.values), *array.shape), bool)
        for mask, (first, *others) in zip(masks, self.values, strict=True):
            np.equal(array, first, out=mask)
            for value in others:
                mask |= array == value
        return masks.transpose(0, *range(masks.ndim - 1, 0, -1)) if backwards else masks

    def labelled(self, label: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return which voxels somebody labelled; None stands for all of them."""
        return None if self.ignored is None else label != self.ignored

    def paint(self, masks: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the label map of masks (classes, *spatial), of the smallest unsigned dtype.

        Raises:
            ValueError: The classes have no label map.

        """
        if self.painted is None:
            raise ValueError("classes: expected the values to paint; these classes have none")
        label = np.zeros(masks.shape[1:], np.min_scalar_type(max(self.painted)))
        for mask, value in zip(masks, self.painted, strict=True):
            label[mask] = value
        return label

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold; :meth:`from_state` is the way back."""
        return {
            "names": list(self.names),
            "channels": list(self.channels),
            "values": [list(values) for values in self.values],
            "exclusive": self.exclusive,
            "background": self.background,
            "painted": None if self.painted is None else list(self.painted),
            "ignored": self.ignored,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Classes:
        """Return the classes that :meth:`state` described.

        Raises:
            ValueError: It is not what :meth:`state` returns.

        """
        try:
            return cls(
                tuple(str(name) for name in state["names"]),
                tuple(int(channel) for channel in state["channels"]),
                tuple(tuple(int(value) for value in values) for values in state["values"]),
                bool(state["exclusive"]),
                None if state["background"] is None else int(state["background"]),
                None if state["painted"] is None else tuple(int(v) for v in state["painted"]),
                None if state["ignored"] is None else int(state["ignored"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"classes: expected what a rule holds, got {state!r:.80}") from error
