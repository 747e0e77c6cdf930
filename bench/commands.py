"""The commands on volumes beside plain reading and writing of the same files: time and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import nibabel
import numpy as np
import torch

from bench import machine, record
from bench.case import Size, organ
from bench.timing import duration
from marginseg import GaussianFieldNoise
from marginseg.files.atomic import write_text

#: The edge of the volumes, and how often each process runs.
EDGE, TURNS = 512, 3

#: The edge of volumes on which a command takes its start-up's time, and what it then writes.
SMALL_EDGE, SMALL_OUTPUT = 16, "small-output"

#: A map larger than memory ought to be: 8.6 GB of float32, most of it a hole in the file.
LARGE_EDGE = 1290

COMMAND = "from marginseg_command import main; main()"

#: What each row's command is held against, in a process of its own, timed without start-up.
READ_AND_WRITE = """
import json, sys, time
import nibabel, numpy as np
source, result, target = sys.argv[1:]
written = np.asanyarray(nibabel.load(result).dataobj)
began = time.perf_counter()
image = nibabel.load(source)
values = np.array(np.asanyarray(image.dataobj))
nibabel.save(nibabel.Nifti1Image(written, image.affine), target)
print(json.dumps({"nibabel": time.perf_counter() - began}))
"""
DECOMPRESS = """
import gzip, importlib, json, sys, time
seconds = {}
buffer = memoryview(bytearray(1 << 20))
for name in ("isal.igzip", "zlib_ng.gzip_ng", "gzip"):
    try:
        library = importlib.import_module(name)
    except ImportError:
        continue
    began = time.perf_counter()
    with library.open(sys.argv[1], "rb") as stream:
        while stream.readinto(buffer):
            pass
    seconds[name] = time.perf_counter() - began
try:
    import deflate
except ImportError:
    pass
else:
    size = int(sys.argv[2])
    content = open(sys.argv[1], "rb").read()
    began = time.perf_counter()
    deflate.gzip_decompress(content, size)
    seconds["deflate"] = time.perf_counter() - began
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class CommandRow:
    """A command's time without start-up, and its memory above that of an idle ``import torch``.

    Attributes:
        command: As it is typed.
        size: Of the volume.
        seconds: Of the whole process.
        start_up: Of the same command on a volume of a few voxels: imports of torch and others.
        peer: What it is held against, and its seconds.
        peer_seconds: Without start-up.
        ratio: (seconds - start_up) / peer_seconds.
        target: The ratio that is aimed at.
        peak_bytes: Of resident memory, files that are mapped included, above idle.
        anonymous_bytes: Of memory that belongs to no file, above idle.
        memory_ratio: The peak over the bytes of the input, decompressed.
        memory_target: The memory ratio that is aimed at.
        met: Whether both are.

    """

    command: str
    size: str
    seconds: float
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


@dataclass(frozen=True)
class Process:
    """What a process took."""

    seconds: float
    peak_bytes: int
    anonymous_bytes: int
    output: str


def run(code: str, *arguments: object) -> Process:
    """Run Python code in a process, and look at its memory every few milliseconds.

    Raises:
        RuntimeError: It failed.

    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    peaks = {"VmHWM": 0, "RssAnon": 0}
    began = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.003):
                try:
                    lines = status.read_text().splitlines()
                except OSError:
                    return
                for name, _, value in (line.partition(":") for line in lines):
                    if name in peaks:
                        peaks[name] = max(peaks[name], int(value.split()[0]) * 1024)

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, errors = process.communicate()
        seconds = perf_counter() - began
        ended.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(errors.decode().strip() or f"exit status {process.returncode}")
    return Process(seconds, peaks["VmHWM"], peaks["RssAnon"], output.decode())


@dataclass(frozen=True)
class Held:
    """A command, and what it is held against."""

    shown: str
    options: tuple[object, ...]
    source: Path
    small: Path  # a volume of the same kind that takes no time
    output: Path
    result: Path
    input_bytes: int
    target: float | None
    memory_target: float | None = None
    decompression: bool = False

    def run(self, source: Path) -> Process:
        output = self.output
        if source is not self.source:
            output = output.with_name(SMALL_OUTPUT + "".join(output.suffixes))
        return run(COMMAND, self.shown.split()[0], source, *self.options, "-o", output)

    def peer(self, folder: Path) -> tuple[str, float]:
        if self.decompression:
            found = run(DECOMPRESS, self.source, self.input_bytes + 352)
            name, seconds = min(json.loads(found.output).items(), key=lambda pair: pair[1])
            return f"decompression by {name}", seconds
        suffix = "".join(self.result.suffixes)
        found = run(READ_AND_WRITE, self.source, self.result, folder / f"peer{suffix}")
        return "nibabel reads and writes", json.loads(found.output)["nibabel"]


def measure(edge: int = EDGE, turns: int = TURNS) -> Iterator[CommandRow]:
    """Yield a row for each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for held in _commands(folder, edge):
            yield _row(held, folder, f"{edge}³", turns)
        if edge == EDGE:
            yield _row(_large(folder), folder, f"{LARGE_EDGE}³", 1)


def _commands(folder: Path, edge: int) -> Iterator[Held]:
    label, plain, packed = _inputs(folder, edge)
    (folder / "small").mkdir()
    small_label, small_plain, small_packed = _inputs(folder / "small", SMALL_EDGE)
    voxels = edge**3
    samples = folder / "samples"
    yield Held(
        "noise LABEL.nii.gz --std 0.02",
        ("--std", 0.02),
        label,
        small_label,
        samples,
        samples / "label_noisy001.nii.gz",
        voxels,
        2.0,
        3.0,
    )
    mask = folder / "mask.nii.gz"
    yield Held("threshold MAP.nii", (), plain, small_plain, mask, mask, 4 * voxels, 2.0, 0.6)
    yield Held(
        "threshold MAP.nii.gz",
        (),
        packed,
        small_packed,
        mask,
        mask,
        4 * voxels,
        1.5,
        decompression=True,
    )
    for suffix in (".nii.gz", ".nii"):
        result = folder / f"marginals{suffix}"
        yield Held(
            f"marginals LABEL.nii.gz --label 1 --std 0.02 -o M{suffix}",
            ("--label", 1, "--std", 0.02),
            label,
            small_label,
            result,
            result,
            voxels,
            2.0,
        )


def _inputs(folder: Path, edge: int) -> tuple[Path, Path, Path]:
    """Write a label map of two structures, and a map as a network has it, with and without gzip."""
    values = organ(Size(edge)).numpy().astype(np.uint8)
    values[: edge // 4, : edge // 4, : edge // 4] = 2
    affine = np.diag([0.8, 0.8, 0.8, 1.0])
    label = folder / "label.nii.gz"
    _save(values, affine, label)
    mask = torch.from_numpy((values == 1).astype(np.uint8))
    marginals = GaussianFieldNoise(std=0.03).marginals(mask).numpy()
    noise = np.random.default_rng(0).random(marginals.shape, np.float32)
    noise -= 0.5
    noise *= marginals * (1 - marginals)
    marginals += noise
    plain, packed = folder / "map.nii", folder / "map.nii.gz"
    for path in (plain, packed):
        _save(marginals.clip(0, 1), affine, path)
    return label, plain, packed


def _save(values: Any, affine: Any, path: Path) -> None:
    nibabel.save(cast(Any, nibabel.Nifti1Image)(values, affine), path)


def _large(folder: Path) -> Held:
    """Write a file of 8.6 GB that takes little of the disk: what is not written reads as 0."""
    path = folder / "large.nii"
    header: Any = cast(Any, nibabel.Nifti1Header)()
    header.set_data_shape((LARGE_EDGE,) * 3)
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    size = 4 * LARGE_EDGE**3
    block = np.random.default_rng(0).random(1 << 22, np.float32)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for share in (0.3, 0.5, 0.7):
            file.seek(352 + int(share * LARGE_EDGE**3) * 4)
            file.write(block.tobytes())
        file.truncate(352 + size)
    mask = folder / "large_mask.nii.gz"
    small = folder / "small" / "map.nii"
    return Held("threshold MAP.nii", (), path, small, mask, mask, size, None)


def _row(held: Held, folder: Path, size: str, turns: int) -> CommandRow:
    idle, ours, peers = [], [], []
    start_ups = []
    for _ in range(turns):
        idle.append(run("import torch"))
        start_ups.append(held.run(held.small).seconds)
        ours.append(held.run(held.source))
        if held.target is not None:
            peers.append(held.peer(folder))
    seconds = statistics.median(process.seconds for process in ours)
    start_up = statistics.median(start_ups)
    peak = max(p.peak_bytes for p in ours) - max(p.peak_bytes for p in idle)
    anonymous = max(p.anonymous_bytes for p in ours) - max(p.anonymous_bytes for p in idle)
    peer_seconds = statistics.median(time for _, time in peers) if peers else None
    ratio = None if peer_seconds is None else (seconds - start_up) / peer_seconds
    memory_ratio = peak / held.input_bytes
    goals: list[tuple[float | None, float | None]] = [
        (ratio, held.target),
        (memory_ratio, held.memory_target),
    ]
    if held.target is None:  # no peer: the target is 256 MB, whatever the map's size
        goals.append((anonymous / 2**20, 256.0))
    reached = [value <= goal for value, goal in goals if value is not None and goal is not None]
    return CommandRow(
        held.shown,
        size,
        seconds,
        start_up,
        peers[0][0] if peers else "",
        peer_seconds,
        ratio,
        held.target,
        peak,
        anonymous,
        memory_ratio,
        held.memory_target,
        all(reached),
    )


HEADINGS = (
    "command",
    "size",
    "time",
    "of it start-up",
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
        duration(row["start_up"]),
        row["peer"] or "–",
        duration(row["peer_seconds"]) if row["peer"] else "–",
        number("ratio"),
        number("target", "≤ {:g}"),
        f"{row['peak_bytes'] / 1e6:.0f} MB",
        f"{row['anonymous_bytes'] / 1e6:.0f} MB" + ("" if row["peer"] else " (≤ 268)"),
        number("memory_ratio"),
        number("memory_target", "≤ {:g}"),
        "yes" if row["met"] else "no",
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
