"""Files in which runs of zeros are holes: they are read as zeros, and nothing is stored for them.

Most of a segmentation and of its marginals is background. Where the file system keeps no holes it
stores the zeros itself.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Final

import numpy as np

#: Bytes that are written, or left out because they are 0, together.
BLOCK: Final = 1 << 16


class SparseWriter:
    """Write arrays to a file, without their zeros.

    Args:
        file: A new file, at its end. It stays open.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> stream = SparseWriter(file)
        >>> stream.write(np.array([0, 7, 0], np.uint8))
        >>> stream.finish()
        >>> list(file.getvalue())
        [0, 7, 0]

    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: Any) -> None:
        """Add bytes, or the bytes of a contiguous array."""
        values = np.frombuffer(content, np.uint8)
        whole = len(values) - len(values) % BLOCK
        blocks = values[:whole].view(np.uint64).reshape(-1, BLOCK // 8)
        pending = 0  # where what must be written begins
        for index, block in enumerate(blocks):
            if block.max():
                continue
            begin = index * BLOCK
            if begin > pending:
                self._file.write(values[pending:begin].data)
            self._file.seek(BLOCK, 1)
            pending = begin + BLOCK
        if pending < len(values):
            self._file.write(values[pending:].data)

    def finish(self) -> None:
        """Give the file its length, which the last hole may not have."""
        self._file.truncate(self._file.tell())
