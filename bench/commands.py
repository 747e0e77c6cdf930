"""The commands on volumes beside plain reading and writing of the same files: time and memory."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, record
from bench.process import Process, run
from bench.timing import duration
from bench.volumes import (
    LARGE_EDGE,
    has_sparse_files,
    label_map,
    large_map,
    probability_maps,
    require_room,
)
from marginseg.files.atomic import write_text

#: The edge of the volumes, and how often each process runs.
EDGE, TURNS = 512, 3

#: The edge of volumes on which a command takes its start-up's time, and what it then writes.
SMALL_EDGE, SMALL_OUTPUT = 16, "small-output"

COMMAND = "from marginseg_command import main; main()"

#: What each row's command is held against, in a process of its own, timed without start-up.
READ_AND_WRITE = """
import json, sys, time
import nibabel, numpy as np
source, target, *results = sys.argv[1:]
written = [np.asanyarray(nibabel.load(result).dataobj) for result in results]
began = time.perf_counter()
image = nibabel.load(source)
values = np.array(np.asanyarray(image.dataobj))
for content in written:
    nibabel.save(nibabel.Nifti1Image(content, image.affine), target)
print(json.dumps({"nibabel reads and writes": time.perf_counter() - began}))
"""
DECOMPRESS = """
import gzip, importlib, json, sys, time
seconds, size = {}, int(sys.argv[2])
buffer = memoryview(bytearray(1 << 20))
def check(name, count):
    if count != size:
        raise ValueError(f"{name}: expected {size} bytes, got {count}")
for name in ("isal.igzip", "zlib_ng.gzip_ng", "gzip"):
    try:
        library = importlib.import_module(name)
    except ImportError:
        continue
    began, count = time.perf_counter(), 0
    with library.open(sys.argv[1], "rb") as stream:
        while read := stream.readinto(buffer):
            count += read
    seconds[f"decompression by {name}"] = time.perf_counter() - began
    check(name, count)
try:
    import deflate
except ImportError:
    pass
else:
    began = time.perf_counter()
    with open(sys.argv[1], "rb") as stream:
        content = deflate.gzip_decompress(stream.read(), size)
    seconds["decompression by deflate"] = time.perf_counter() - began
    check("deflate", len(content))
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class CommandRow:
    """A command's time without start-up, and its memory above that of an idle ``import torch``.

    Attributes:
        command: As it is typed.
        size: Of the volume.
        seconds: Of the whole process.
        torch_seconds: Of a process that imports torch, and no more.
        start_up: Of the same command on a volume of a few voxels: torch's import and all others.
        peer: What it is held against, and its seconds.
        peer_seconds: Without start-up.
        ratio: (seconds - start_up) / peer_seconds; of what only starts, their quotient.
        target: The ratio that is aimed at.
        peak_bytes: Of resident memory, files that are mapped included, above idle.
        anonymous_bytes: Of memory that belongs to no file, above idle.
        memory_ratio: The peak over the bytes of the input, decompressed.
        memory_target: The memory ratio that is aimed at.
        met: Whether both are; none where nothing is aimed at.

    """

    command: str
    size: str
    seconds: float
    torch_seconds: float
    start_up: float
    peer: str
    peer_seconds: float | None
    ratio: float | None
    target: float | None
    peak_bytes: int
    anonymous_bytes: int
    memory_ratio: float | None
    memory_target: float | None
    met: bool | None


#: What takes as long as an import: shown, and the code.
STARTS = {
    "--help": f"import sys; sys.argv[1:] = ['--help']; {COMMAND}",
    "import marginseg": "import marginseg",
}


@dataclass(frozen=True)
class Held:
    """A command, and what it is held against."""

    shown: str
    options: tuple[object, ...]
    source: Path
    small: Path  # a volume of the same kind that takes no time
    output: Path
    results: tuple[Path, ...]
    input_bytes: int
    target: float | None = None
    memory_target: float | None = None
    peer: str | None = READ_AND_WRITE
    size: str = ""

    def run(self, source: Path) -> Process:
        output = self.output
        if source is not self.source:
            output = output.with_name(SMALL_OUTPUT + "".join(output.suffixes))
        # A file that is replaced costs what it takes to forget it.
        for result in self.results if source is self.source else ():
            result.unlink(missing_ok=True)
        return run(COMMAND, self.shown.split()[0], source, *self.options, "-o", output)

    def run_peer(self, folder: Path) -> dict[str, float]:
        """Return the seconds of each way to do what the command is held against."""
        if self.peer is None:
            return {}
        if self.peer == DECOMPRESS:
            arguments: tuple[object, ...] = (self.source, self.input_bytes + 352)
        else:
            suffix = "".join(self.results[0].suffixes)
            target = folder / f"peer{suffix}"
            target.unlink(missing_ok=True)
            arguments = (self.source, target, *self.results)
        seconds: dict[str, float] = json.loads(run(self.peer, *arguments).output)
        return seconds


def fastest(turns: list[dict[str, float]]) -> tuple[str, float]:
    """Return the way that takes least in the median over the turns, and that median.

    >>> fastest([{"a": 1.0, "b": 3.0}, {"a": 5.0, "b": 3.0}, {"a": 4.0, "b": 3.0}])
    ('b', 3.0)
    """
    medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return min(medians.items(), key=lambda pair: pair[1])


def measure(edge: int = EDGE, turns: int = TURNS) -> Iterator[CommandRow]:
    """Yield a row for each command.

    Raises:
        OSError: The folder for temporary files has no room.

    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        require_room(folder, edge)
        idle = []
        starts: dict[str, list[Process]] = {shown: [] for shown in STARTS}
        for _ in range(turns):
            idle.append(run("import torch"))
            for shown, code in STARTS.items():
                starts[shown].append(run(code))
        for shown, processes in starts.items():
            yield _start(shown, processes, idle)
        for held in _commands(folder, edge):
            yield _row(held, folder, idle, turns)
        if edge == EDGE:
            if has_sparse_files(folder):
                yield _row(_large(folder), folder, idle, 1)
            else:
                left_out = f"{LARGE_EDGE}³: left out, {folder.parent} has no sparse files"
                print(left_out, file=sys.stderr)


def _commands(folder: Path, edge: int) -> Iterator[Held]:
    places = {size: folder / str(size) for size in {edge, edge // 2, SMALL_EDGE}}
    labels = {}
    for size, place in places.items():
        place.mkdir()
        labels[size] = label_map(place, size)
    plain, packed = probability_maps(labels[edge])
    small_plain, small_packed = probability_maps(labels[SMALL_EDGE])
    for size, count in ((edge, 1), (edge // 2, 5)):
        several = ("--samples", count) if count > 1 else ()
        samples = folder / f"samples-{count}"
        yield Held(
            " ".join(map(str, ("noise LABEL.nii.gz --std 0.02", *several))),
            ("--std", 0.02, *several),
            labels[size],
            labels[SMALL_EDGE],
            samples,
            tuple(samples / f"label_noisy{n:03d}.nii.gz" for n in range(1, count + 1)),
            size**3,
            target=2.0 if count == 1 else None,
            memory_target=3.0 if count == 1 else None,
            size=f"{size}³",
        )
    mask = folder / "mask.nii.gz"
    map_bytes = 4 * edge**3
    for source, small, target, memory_target, peer in (
        (plain, small_plain, 2.0, 0.6, READ_AND_WRITE),
        (packed, small_packed, 1.5, None, DECOMPRESS),
    ):
        yield Held(
            f"threshold MAP{''.join(source.suffixes)}",
            (),
            source,
            small,
            mask,
            (mask,),
            map_bytes,
            target,
            memory_target,
            peer,
            f"{edge}³",
        )
    for suffix in (".nii.gz", ".nii"):
        result = folder / f"marginals{suffix}"
        yield Held(
            f"marginals LABEL.nii.gz --label 1 --std 0.02 -o M{suffix}",
            ("--label", 1, "--std", 0.02),
            labels[edge],
            labels[SMALL_EDGE],
            result,
            (result,),
            edge**3,
            2.0,
            size=f"{edge}³",
        )


def _large(folder: Path) -> Held:
    mask = folder / "large_mask.nii.gz"
    return Held(
        "threshold MAP.nii",
        (),
        large_map(folder),
        folder / str(SMALL_EDGE) / "map.nii",
        mask,
        (mask,),
        4 * LARGE_EDGE**3,
        peer=None,
        size=f"{LARGE_EDGE}³",
    )


def _median(processes: list[Process]) -> float:
    return statistics.median(process.seconds for process in processes)


def _above(ours: list[Process], idle: list[Process]) -> tuple[int, int]:
    """Return the peaks above those of idle processes: resident, and of no file."""
    peak = max(p.peak_bytes for p in ours) - max(p.peak_bytes for p in idle)
    return peak, max(p.anonymous_bytes for p in ours) - max(p.anonymous_bytes for p in idle)


def _start(shown: str, processes: list[Process], idle: list[Process]) -> CommandRow:
    """Return the row of what reads no volume, beside ``import torch``."""
    seconds = _median(processes)
    peer_seconds = _median(idle)
    return CommandRow(
        command=shown,
        size="–",
        seconds=seconds,
        torch_seconds=peer_seconds,
        start_up=seconds,
        peer="import torch",
        peer_seconds=peer_seconds,
        ratio=seconds / peer_seconds,
        target=None,
        peak_bytes=_above(processes, idle)[0],
        anonymous_bytes=_above(processes, idle)[1],
        memory_ratio=None,
        memory_target=None,
        met=None,
    )


def _row(held: Held, folder: Path, idle: list[Process], turns: int) -> CommandRow:
    ours, peers, start_ups = [], [], []
    for _ in range(turns):
        start_ups.append(held.run(held.small))
        ours.append(held.run(held.source))
        peers.append(held.run_peer(folder))
    seconds, torch_seconds = _median(ours), _median(idle)
    peak, anonymous = _above(ours, idle)
    peer, peer_seconds = fastest(peers) if held.peer else ("", None)
    ratio = None if peer_seconds is None else (seconds - _median(start_ups)) / peer_seconds
    memory_ratio = peak / held.input_bytes
    goals: list[tuple[float | None, float | None]] = [
        (ratio, held.target),
        (memory_ratio, held.memory_target),
    ]
    if held.peer is None:  # the target is 256 MB, whatever the map's size
        goals.append((anonymous / 2**20, 256.0))
    reached = [value <= goal for value, goal in goals if value is not None and goal is not None]
    return CommandRow(
        held.shown,
        held.size,
        seconds,
        torch_seconds,
        _median(start_ups),
        peer,
        peer_seconds,
        ratio,
        held.target,
        peak,
        anonymous,
        memory_ratio,
        held.memory_target,
        all(reached) if reached else None,
    )


HEADINGS = (
    "command",
    "size",
    "time",
    "import torch",
    "start-up",
    "beside",
    "its time",
    "ratio",
    "target",
    "peak",
    "anonymous",
    "peak / input",
    "target",
    "met",
)


def cells(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row of the table."""

    def number(key: str, form: str = "{:.2f}") -> str:
        return "–" if row[key] is None else form.format(row[key])

    return [
        f"`{row['command']}`",
        row["size"],
        duration(row["seconds"]),
        duration(row["torch_seconds"]),
        duration(row["start_up"]),
        row["peer"] or "–",
        duration(row["peer_seconds"]) if row["peer"] else "–",
        number("ratio"),
        number("target", "≤ {:g}"),
        f"{row['peak_bytes'] / 1e6:.0f} MB",
        f"{row['anonymous_bytes'] / 1e6:.0f} MB" + ("" if row["peer"] else " (≤ 268)"),
        number("memory_ratio"),
        number("memory_target", "≤ {:g}"),
        {True: "yes", False: "no", None: "–"}[row["met"]],
    ]


def markdown(stored: dict[str, Any]) -> str:
    """Return the results as a page of Markdown."""
    facts = stored["machine"]
    rows = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, stored["rows"])]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    where = f"{facts['cpu']}, {facts['cores']} cores; commit {facts['commit']}, {facts['date']}."
    written = "Written by `python -m bench.commands`; [what is measured](../README.md#commands)."
    return "\n".join(["# The commands on volumes", "", written, "", where, "", *lines, ""])


def main() -> None:
    parser = ArgumentParser(prog="python -m bench.commands", description=__doc__)
    parser.add_argument("--edge", type=int, default=EDGE, help="of the volumes, in voxels")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each process")
    parser.add_argument("--output", type=Path, default=record.FOLDER, help="folder of results")
    options = parser.parse_args()
    described = machine.description([len(os.sched_getaffinity(0))])
    rows: list[Any] = []
    for row in measure(options.edge, options.turns):
        rows.append(record.plain(row))
        print(" | ".join(cells(rows[-1])), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    stored = {"machine": described, "rows": rows}
    text = json.dumps(stored, ensure_ascii=False, indent=1) + "\n"
    write_text(options.output / "commands.json", text)
    write_text(options.output / "commands.md", markdown(stored))


if __name__ == "__main__":
    main()
