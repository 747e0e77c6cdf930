"""Prepared cases on disk: one file a case, written whole, mapped into memory when read.

A file is a NumPy array of one record: image, label, spacing, what is known of the whole volume,
and a checksum that finds an entry that was damaged.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from marginseg.data.dataset import Case
from marginseg.files.atomic import replacing

# NumPy reads a header with Python's parser, which some versions of Python 3.11 can't run in two
# threads at once: they raise a SystemError.
_parsing = threading.Lock()

#: Stands in an entry for the voxels of a whole volume that nobody counted.
UNKNOWN = -1


class CachedCases(Sequence[Case]):
    """Cases in the cache. Arrays are mapped copy-on-write: writing to them leaves the file alone.

    Every access opens the file anew, and the arrays keep it open while they live.

    Args:
        names: The cases' names.
        files: Their entries, in the same order.

    """

    def __init__(self, names: Sequence[str], files: Sequence[Path]) -> None:
        self.names = tuple(names)
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> CachedCases: ...
    def __getitem__(self, index: int | slice) -> Case | CachedCases:
        if isinstance(index, slice):
            return CachedCases(self.names[index], self.files[index])
        return read_entry(self.files[index], self.names[index])


def write_entry(path: Path, case: Case) -> None:
    """Write one case, whole or not at all."""
    entry = np.zeros(1, _record(case.image.shape))
    entry["image"], entry["label"], entry["spacing"] = case.image, case.label, case.spacing
    entry["voxels"] = UNKNOWN if case.voxels is None else case.voxels
    entry["cut"] = np.nan if case.cut is None else case.cut
    entry["checksum"] = _checksum(entry)
    # By way of memory: NumPy's own writing to a file hides why the disk refused.
    content = io.BytesIO()
    np.save(content, entry)
    with replacing(path, fsync=False) as file:
        file.write(content.getbuffer())


def read_entry(path: Path, name: str) -> Case:
    """Map one entry into memory.

    Args:
        path: The entry.
        name: What the case is called; the entry itself doesn't say.

    Raises:
        ValueError: The file is not a whole entry.
        OSError: The file cannot be opened.

    Example:
        >>> import tempfile
        >>> ones = np.ones((2, 2, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.npy")
        ...     write_entry(path, Case("a", ones.astype("f4"), ones.astype("u1"), (1, 1, 3)))
        ...     case = read_entry(path, "a")
        >>> case.spacing, int(case.label.sum()), case.voxels
        ((1.0, 1.0, 3.0), 8, None)

    """
    entry = _map(path)
    spacing = tuple(float(s) for s in entry["spacing"][0])
    voxels, cut = int(entry["voxels"][0]), float(entry["cut"][0])
    return Case(
        name,
        entry["image"][0],
        entry["label"][0],
        spacing,
        None if voxels == UNKNOWN else voxels,
        None if np.isnan(cut) else cut,
    )


def is_intact(path: Path, patch_shape: Sequence[int]) -> bool:
    """Whether an entry is there, has patches of that shape, and is what was written."""
    try:
        entry = _map(path)
        return entry["image"].shape[1:] == tuple(patch_shape) and bool(
            entry["checksum"][0] == _checksum(entry)
        )
    except (OSError, ValueError):
        return False


def sha256(path: Path) -> str:
    """Return the digest of a whole file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(shape: tuple[int, ...]) -> np.dtype[np.void]:
    """Return the dtype of an entry whose patch has that shape."""
    return np.dtype(
        [
            ("image", "<f4", shape),
            ("label", "u1", shape),
            ("spacing", "<f8", (len(shape),)),
            ("voxels", "<i8"),
            ("cut", "<f8"),
            ("checksum", "<u4"),
        ]
    )


def _map(path: Path) -> NDArray[np.void]:
    problem = ValueError(f"{path}: expected a prepared case, got a damaged or another file")
    try:
        with _parsing:
            entry = np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a damaged header raises whatever Python's tokenizer raises
        raise problem from error
    # Of an archive NumPy returns something else, and a damaged header may describe other fields.
    fields = entry.dtype.fields if isinstance(entry, np.ndarray) else None
    if fields is None or "image" not in fields:
        raise problem
    if entry.shape != (1,) or entry.dtype != _record(fields["image"][0].shape):
        raise problem
    return entry


def _checksum(entry: NDArray[np.void]) -> int:
    total = 0
    for field in entry.dtype.names or ():
        if field != "checksum":
            total = zlib.crc32(np.ascontiguousarray(entry[field]).data, total)
    return total
