"""Which labels there are, as the dataset.json of nnU-Net or of the Decathlon says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marginseg.classes import Classes
from marginseg.files.records import parse_json

BACKGROUND: Final = "background"
IGNORE: Final = "ignore"

#: Label maps hold no larger values.
LARGEST_LABEL: Final = 2**31 - 1


@dataclass(frozen=True)
class LabelNames:
    """The foreground labels of a data set, in the order of the file.

    Attributes:
        path: The file that says it.
        values: The label values of each name.
        regions: Whether a class is made of several label values, as nnU-Net tells it.
        order: The value that each class is painted with, where the file says so.
        ignored: The label value of voxels that nobody labelled.

    """

    path: Path
    values: dict[str, tuple[int, ...]]
    regions: bool
    order: tuple[int, ...] | None
    ignored: int | None

    def nnunet_classes(self) -> Classes:
        """Return what the channels of nnU-Net's maps stand for.

        Regions are channels in the order of the file, without a background. Other labels are
        channels in the order of their values, behind the background's.

        Raises:
            ValueError: nnU-Net would not have taken the file.

        """
        if self.regions:
            if self.order is None:
                raise ValueError(
                    f"{self.path}: expected regions_class_order beside labels that are regions, "
                    "got none"
                )
            return Classes.regions(self.values, painted=self.order, ignored=self.ignored)
        named: dict[int, str] = {}
        for name, values in self.values.items():
            for value in values:
                # Names of the same value are one channel.
                named[value] = f"{named[value]}/{name}" if value in named else name
        if sorted(named) != list(range(1, len(named) + 1)):
            raise ValueError(
                f"{self.path}: expected labels 0, 1, 2, ... without gaps, got {sorted(named)}"
            )
        return Classes.softmax([named[value] for value in sorted(named)], ignored=self.ignored)


def read_label_names(path: Path) -> LabelNames:
    """Read the ``labels`` of a ``dataset.json`` or ``classes.json``.

    Args:
        path: JSON whose ``labels`` are nnU-Net's, from names to a value or a list of them, or the
            Decathlon's, from values to names.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It says nothing of labels that makes sense.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "dataset.json")
        ...     _ = path.write_text('{"labels": {"background": 0, "core": 2, "organ": 1}}')
        ...     read_label_names(path).nnunet_classes().names
        ('organ', 'core')

    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: expected JSON, but {said:.200}") from error
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise ValueError(
            f"{path}: expected 'labels' with a value for each name, got {labels!r:.80}"
        )
    if all(_digits(key) and isinstance(value, str) for key, value in labels.items()):
        if len(set(labels.values())) < len(labels):
            raise ValueError(f"{path}: expected labels whose names differ, got {labels!r:.80}")
        labels = {name: int(key) for key, name in labels.items()}
    values: dict[str, tuple[int, ...]] = {}
    regions, ignored = False, None
    for name, value in labels.items():
        numbers = value if isinstance(value, list) else [value]
        found = tuple(_label(number, name, path) for number in numbers)
        if name == IGNORE:
            if len(found) != 1 or isinstance(value, list):
                raise ValueError(f"{path}: expected one value for 'ignore', got {value!r:.80}")
            ignored = found[0]
            continue
        regions |= len(found) > 1
        if not found or set(found) == {0}:
            continue  # the background, whatever its name
        values[name] = found
    if not values:
        raise ValueError(f"{path}: expected at least one label of the foreground, got none")
    order = content.get("regions_class_order")
    if order is not None:
        if not isinstance(order, list):
            raise ValueError(f"{path}: expected a list, regions_class_order, got {order!r:.80}")
        order = tuple(_label(number, "regions_class_order", path) for number in order)
        if regions and len(order) != len(values):
            raise ValueError(
                f"{path}: expected regions_class_order with a value for each of {len(values)} "
                f"regions, got {len(order)}"
            )
    return LabelNames(path, values, regions, order, ignored)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 11


def _label(number: Any, name: str, path: Path) -> int:
    if isinstance(number, str) and _digits(number):
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_LABEL:
        raise ValueError(f"{path}: expected label values for {name!r:.80}, got {number!r:.80}")
    return number
