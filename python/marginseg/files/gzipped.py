"""Gzip streams at the speed of the fastest library that is here: ISA-L's, else Python's own.

What is written is one gzip member, which every reader takes whole: blocks of fixed size are
compressed side by side, each ends on a whole byte (deflate's sync flush), and laid end to end they
are one deflate stream. So the same content gives the same bytes, on any number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

try:
    from isal import igzip as reading
    from isal import isal_zlib as deflate
except ImportError:  # no wheel for this platform
    import gzip as reading  # type: ignore[no-redef]
    import zlib as deflate  # type: ignore[no-redef]

#: How a gzip file begins.
MAGIC: Final = b"\x1f\x8b"

#: Deflate can make no more than so many bytes of one.
LARGEST_EXPANSION: Final = 1032

#: What is wrong with a stream: a checksum, a header, its end, its codes.
DAMAGED: Final[tuple[type[Exception], ...]] = (
    EOFError,
    reading.BadGzipFile,
    cast(type[Exception], deflate.error),
)

#: A member without name and time, whose content says alone what its bytes are (RFC 1952).
HEADER: Final = MAGIC + bytes([8, 0, 0, 0, 0, 0, 4, 255])

#: Label maps get a third of the size that the next faster level gives, for the same time.
LEVEL: Final = 1

BLOCK: Final = 1 << 20

#: More would wait for the disk; and many files may be written side by side.
MOST_THREADS: Final = 8


def open_gzip(path: Path) -> BinaryIO:
    """Open a gzip file, of one or more members, for reading; ``readinto`` fills what it is given.

    The checksum of a member is compared when its end is read.
    """
    return cast(BinaryIO, cast(Any, reading).open(path, "rb"))


class GzipWriter:
    """Compress what is written, in several threads; closing ends the stream.

    Args:
        file: Gets the compressed bytes. It stays open.

    Example:
        >>> import gzip, io
        >>> file = io.BytesIO()
        >>> with GzipWriter(file) as stream:
        ...     stream.write(b"whole")
        >>> gzip.decompress(file.getvalue())
        b'whole'

    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._threads)
        self._pending: deque[Future[bytes]] = deque()
        self._block = bytearray()
        self._checksum = 0
        self._size = 0
        file.write(HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._end()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, content: Any) -> None:
        """Add bytes, or the bytes of a contiguous array; they are copied."""
        view = memoryview(content).cast("B")
        self._checksum = deflate.crc32(view, self._checksum)
        self._size += len(view)
        while len(view):
            taken = view[: BLOCK - len(self._block)]
            self._block += taken
            view = view[len(taken) :]
            if len(self._block) == BLOCK:
                self._submit(deflate.Z_SYNC_FLUSH)

    def _submit(self, flush: int) -> None:
        self._pending.append(self._pool.submit(_deflated, self._block, flush))
        self._block = bytearray()
        while len(self._pending) > 2 * self._threads:
            self._file.write(self._pending.popleft().result())

    def _end(self) -> None:
        self._submit(deflate.Z_FINISH)
        while self._pending:
            self._file.write(self._pending.popleft().result())
        self._file.write(self._checksum.to_bytes(4, "little"))
        self._file.write((self._size % 2**32).to_bytes(4, "little"))


def _deflated(block: bytearray, flush: int) -> bytes:
    """Compress a block without what stood before it, as a part of a raw deflate stream."""
    compressor = deflate.compressobj(LEVEL, deflate.DEFLATED, -deflate.MAX_WBITS)
    return compressor.compress(block) + compressor.flush(flush)
