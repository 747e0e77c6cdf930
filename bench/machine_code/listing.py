"""Machine code as `cuobjdump -sass` lists it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.machine_code.elf import Elf

ARCHITECTURE = "sm_90"
#: Bytes of an instruction.
LENGTH = 16
#: The register that reads as 0 and the predicate that reads as true.
ZERO_REGISTER, ZERO_UNIFORM, TRUE = 255, 63, 7


class MissingToolError(Exception):
    """Something that executing the machine code needs is not here; the message says what."""


@dataclass(frozen=True)
class Operand:
    """An operand of an instruction.

    Attributes:
        kind: register, uniform, predicate, uniform predicate, barrier, number, constant, address
            or name.
        number: Of the register, predicate, barrier or constant bank; a number's 32 bits.
        text: A name.
        part: Of a register, as H0_H0, B1 or 64.
        offset: Within the constant bank, or added to the address.
        registers: What is added to an address or to the offset in a bank, with its scale as part.

    """

    kind: str
    number: int = 0
    text: str = ""
    part: str = ""
    offset: int = 0
    negative: bool = False
    inverted: bool = False
    absolute: bool = False
    registers: tuple[Operand, ...] = ()

    @property
    def is_predicate(self) -> bool:
        return self.kind.endswith("predicate")


@dataclass(frozen=True)
class Instruction:
    """An instruction, `@guard name.modifiers operands`."""

    address: int
    text: str
    guard: Operand | None
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    encoding: int


@dataclass(frozen=True)
class Kernel:
    """A kernel's machine code and what it takes of a multiprocessor.

    Attributes:
        name: Its mangled name.
        instructions: In order, without gaps.
        registers: Of a thread.
        shared: Static shared memory of a block, in bytes.
        constants: Its own constant banks, by number; the compiler keeps tables of jumps there.

    """

    name: str
    instructions: tuple[Instruction, ...]
    registers: int
    shared: int
    constants: dict[int, bytes] = field(default_factory=dict)


def tool(name: str) -> Path:
    """Return where a program of CUDA's is: in PATH, or where its package on PyPI puts it."""
    found = shutil.which(name)
    places = [Path(found)] if found else []
    places += [Path(entry) / "nvidia" / "cu13" / "bin" / name for entry in sys.path]
    for place in places:
        if place.is_file():
            return place
    raise MissingToolError(f"{name} is not here: pip install nvidia-cuda-{name}")


def _output(*arguments: str | Path, folder: Path | None = None) -> str:
    # cuobjdump looks for nvdisasm in PATH.
    places = f"{tool('nvdisasm').parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [str(tool("cuobjdump")), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": places},
    )
    if done.returncode:
        raise MissingToolError(done.stderr.strip() or f"cuobjdump ended with {done.returncode}")
    return done.stdout


def without_anonymous(name: str) -> str:
    """Return a mangled name without its anonymous namespaces, which compilers name differently."""
    parts, end = [], 0
    for found in re.finditer(r"(\d+)(?=_GLOBAL__N_)", name):
        parts.append(name[end : found.start()])
        end = found.end() + int(found[1])
    return "".join(parts) + name[end:]


class Code:
    """The kernels of a compiled module, or of cubins, read when they are asked for."""

    def __init__(self, files: list[Path]) -> None:
        self._folder = TemporaryDirectory()
        self._cubins: list[Path] = []
        for path in files:
            if path.suffix == ".cubin":
                self._cubins.append(path.resolve())
            else:
                self._cubins += self._extracted(path.resolve())
        self._usage: dict[str, tuple[Path, str, int, int]] = {}
        for path in self._cubins:
            for name, registers, shared in re.findall(
                r"Function (\S+):\n\s*REG:(\d+) .*?SHARED:(\d+)",
                _output("--dump-resource-usage", path),
            ):
                key = without_anonymous(name)
                self._usage[key] = (path, name, int(registers), int(shared))
        self._kernels: dict[str, Kernel] = {}
        self._listed: set[Path] = set()

    def _extracted(self, path: Path) -> list[Path]:
        folder = Path(self._folder.name)
        _output("--extract-elf", ARCHITECTURE, path, folder=folder)
        found = sorted(folder.glob(f"*{ARCHITECTURE}*.cubin"))
        if not found:
            raise MissingToolError(f"{path.name} holds no machine code of {ARCHITECTURE}")
        return found

    def kernel(self, name: str) -> Kernel:
        """Return the kernel of a mangled name, which may be another compiler's."""
        key = without_anonymous(name)
        if key not in self._usage:
            raise MissingToolError(f"no machine code of {ARCHITECTURE} for {name}")
        if key not in self._kernels:
            path, spelled, registers, shared = self._usage[key]
            banks = Elf(path)
            constants = {}
            for section in banks.sections():
                found = re.fullmatch(r"\.nv\.constant(\d+)(?:\.(.*))?", section)
                if found and found[1] != "0" and found[2] in (None, spelled):
                    constants[int(found[1])] = banks.section(section) or b""
            listing = _output("--dump-sass", "--function", spelled, path)
            self._kernels[key] = Kernel(
                spelled, tuple(instructions(listing)), registers, shared, constants
            )
        return self._kernels[key]


_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;?\s*/\* 0x([0-9a-f]{16}) \*/")
_REST = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/")


def instructions(listing: str) -> Iterator[Instruction]:
    """Parse the listing of one function."""
    lines = iter(listing.splitlines())
    for line in lines:
        if found := _LINE.match(line):
            rest = _REST.match(next(lines))
            if rest is None:
                raise ValueError(f"half an instruction: {line.strip()}")
            encoding = int(found[3], 16) | int(rest[1], 16) << 64
            yield instruction(int(found[1], 16), found[2], encoding)


def instruction(address: int, text: str, encoding: int) -> Instruction:
    """Parse an instruction."""
    text = re.sub(r"\(\*.*?\*\)", "", text).replace(".reuse", "").strip()
    guard = None
    rest = text
    if rest.startswith("@"):
        spelled, rest = rest[1:].split(None, 1)
        guard = operand(spelled, 0)
    name, _, tail = rest.partition(" ")
    name, *modifiers = name.split(".")
    immediate = encoding >> 32 & 0xFFFFFFFF
    # `RET R2 0x0` and `BRX R2 -0x40` have no comma.
    pieces = re.split(r",\s*|(?<=\w)\s+(?=[-\w])", tail.strip()) if tail.strip() else []
    operands = tuple(operand(piece.strip(), immediate) for piece in pieces)
    return Instruction(address, text, guard, name, tuple(modifiers), operands, encoding)


_REGISTER = re.compile(r"(U?)(R|P)(\d+|Z|T)((?:\.\w+)*)")
_CONSTANT = re.compile(r"c\[0x([0-9a-f]+)\]\[(.*)\]")
_ADDRESS = re.compile(r"(?:desc\[UR\d+\])?\[(.*)\]")
_NUMBER = re.compile(r"(-?)0x([0-9a-f]+)")
_DECIMAL = re.compile(r"[-+]?(\d[\d.]*(e[-+]?\d+)?|INF|QNAN|SNAN)\s*")


def operand(text: str, immediate: int) -> Operand:
    """Parse an operand; numbers that are not spelled in hexadecimal stand in `immediate`."""
    if found := _NUMBER.fullmatch(text):
        value = int(found[2], 16)
        return Operand("number", (-value if found[1] else value) & 0xFFFFFFFF)
    if _DECIMAL.fullmatch(text):
        return Operand("number", immediate)
    return replace(
        _operand(text.lstrip("-~!").replace("|", "")),
        negative=text.startswith("-"),
        inverted=text.startswith(("~", "!")),
        absolute="|" in text,
    )


def _operand(text: str) -> Operand:
    """Parse an operand without signs."""
    if found := _REGISTER.fullmatch(text):
        predicate = found[2] == "P"
        kind = ("uniform" if found[1] else "") + (" predicate" if predicate else "")
        last = TRUE if predicate else ZERO_UNIFORM if found[1] else ZERO_REGISTER
        number = last if found[3] in ("Z", "T") else int(found[3])
        return Operand(kind.strip() or "register", number, part=found[4][1:])
    if found := re.fullmatch(r"B(\d+)", text):
        return Operand("barrier", int(found[1]))
    if found := _CONSTANT.fullmatch(text):
        registers, offset = _sum(found[2])
        return Operand("constant", int(found[1], 16), offset=offset, registers=registers)
    if found := _ADDRESS.fullmatch(text):
        registers, offset = _sum(found[1])
        return Operand("address", offset=offset, registers=registers)
    return Operand("name", text=text)


def _sum(text: str) -> tuple[tuple[Operand, ...], int]:
    """Parse `R2.64+UR4+-0x10`."""
    registers, offset = [], 0
    for term in text.split("+"):
        if found := _NUMBER.fullmatch(term):
            offset += -int(found[2], 16) if found[1] else int(found[2], 16)
        else:
            registers.append(operand(term, 0))
    return tuple(registers), offset
