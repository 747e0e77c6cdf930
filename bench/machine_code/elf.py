"""What is read of ELF files: symbols of a module, sections of a cubin."""

from __future__ import annotations

import struct
from pathlib import Path

SYMBOLS = 2


class Elf:
    """A 64-bit little-endian ELF file."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path}: no 64-bit ELF file")
        (table,) = struct.unpack_from("<Q", self._data, 40)
        size, count, names = struct.unpack_from("<HHH", self._data, 58)
        # Of each header: name, type, flags, address, offset, size, link, info, alignment, entry.
        self._headers = [
            struct.unpack_from("<IIQQQQIIQQ", self._data, table + i * size) for i in range(count)
        ]
        self._names = [self._text(self._content(names), header[0]) for header in self._headers]

    def section(self, name: str) -> bytes | None:
        """Return the content of a section, or None if there is none of that name."""
        return self._content(self._names.index(name)) if name in self._names else None

    def sections(self) -> list[str]:
        """Return the names of all sections."""
        return self._names

    def symbols(self) -> dict[int, str]:
        """Return the symbols by their values; it has none if it was stripped."""
        found = {}
        for number, header in enumerate(self._headers):
            if header[1] != SYMBOLS:
                continue
            content, texts = self._content(number), self._content(header[6])
            for name, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", content):
                if value:
                    found[value] = self._text(texts, name)
        return found

    def _content(self, number: int) -> bytes:
        offset, size = self._headers[number][4:6]
        return self._data[offset : offset + size]

    @staticmethod
    def _text(strings: bytes, start: int) -> str:
        return strings[start : strings.index(b"\0", start)].decode()
