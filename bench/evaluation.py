"""``python -m bench.evaluation``: how long it takes to tell which rule is best for a network.

The whole command on cases that nnU-Net could have written: softmax maps of three organs and a
background, compressed, with labels. Beside it, the reading of those maps and labels alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench import machine, record
from bench.commands import COMMAND
from bench.process import run
from bench.timing import duration
from marginseg.files.atomic import write_text

#: Seconds that 100 cases of 128³ with three classes may take on two cores.
TARGET = 120.0

#: Cases that differ; the others are links to them.
DIFFERENT = 10

#: Organs of a case.
ORGANS = ("a", "b", "c")

#: Reads every map and label once, in one thread.
READING = """
import sys
from pathlib import Path
from marginseg.files.predictions import open_labels, open_predictions
opened = open_predictions(Path(sys.argv[1]))
labels = open_labels(Path(sys.argv[2]), opened)
for case in opened.cases:
    case.probabilities(), case.segmentation(), labels[case.name].read()
"""


@dataclass(frozen=True)
class Row:
    """What an evaluation took.

    Attributes:
        cases: How many there were.
        edge: Voxels along each axis.
        seconds: From the start of the process to its end.
        peak_bytes: The most memory that it had.
        reading: Seconds that a process takes to read all files once.
        busy_elsewhere: Cores that other processes kept busy meanwhile.

    """

    cases: int
    edge: int
    seconds: float
    peak_bytes: int
    reading: float
    busy_elsewhere: float


def softmax(seed: int, edge: int) -> NDArray[np.float32]:
    """Return the true probabilities of background and organs, (4, z, y, x)."""
    random = np.random.default_rng(seed)
    grid = np.indices((edge,) * 3, np.float32) / edge
    logits = 12 * ndimage.gaussian_filter(
        random.standard_normal((len(ORGANS) + 1, *grid.shape[1:]), np.float32), (0, 3, 3, 3)
    )
    for organ in range(1, len(ORGANS) + 1):
        centre = random.uniform(0.25, 0.75, (3, 1, 1, 1)).astype(np.float32)
        distance = np.sqrt(((grid - centre) ** 2).sum(0))
        logits[organ] += edge * random.uniform(0.3, 1) * (random.uniform(0.08, 0.2) - distance)
    p = np.exp(logits - logits.max(0))
    return p / p.sum(0)


def make(folder: Path, cases: int, edge: int) -> tuple[Path, Path]:
    """Write maps that are too sure of themselves, as nnU-Net writes them, and labels."""
    maps, labels = folder / "maps", folder / "labels"
    maps.mkdir()
    labels.mkdir()
    for number in range(min(cases, DIFFERENT)):
        truth = softmax(number, edge)
        level = np.random.default_rng([number, 1]).uniform(size=truth.shape[1:])
        label = (level > np.cumsum(truth, 0)[:-1]).sum(0).astype(np.uint8)
        sure = truth**2.5
        sure /= sure.sum(0)
        name = f"case_{number:03d}"
        np.savez_compressed(maps / f"{name}.npz", probabilities=sure)
        for path, values in ((maps, sure.argmax(0).astype(np.uint8)), (labels, label)):
            image: Any = nibabel.Nifti1Image
            nibabel.save(image(values.T, np.eye(4)), path / f"{name}.nii.gz")
    for number in range(DIFFERENT, cases):
        for path, suffix in ((maps, ".npz"), (maps, ".nii.gz"), (labels, ".nii.gz")):
            source = path / f"case_{number % DIFFERENT:03d}{suffix}"
            os.link(source, path / f"case_{number:03d}{suffix}")
    names = {"background": 0, **{name: number for number, name in enumerate(ORGANS, 1)}}
    (maps / "dataset.json").write_text(json.dumps({"labels": names}))
    return maps, labels


def measure(cases: int, edge: int) -> Row:
    """Evaluate, and read the files alone."""
    with tempfile.TemporaryDirectory(prefix="marginseg-bench-") as name:
        folder = Path(name)
        maps, labels = make(folder, cases, edge)
        reading = run(READING, maps, labels).seconds
        with machine.BusyElsewhere() as others:
            process = run(COMMAND, "evaluate", maps, labels, "-o", folder / "evaluation")
    return Row(cases, edge, process.seconds, process.peak_bytes, reading, others.cores)


def table(stored: dict[str, Any]) -> list[str]:
    """Return the lines of one machine's table."""
    facts, row = stored["machine"], stored["row"]
    disturbed = row["busy_elsewhere"] > machine.UNDISTURBED
    said = f" ({row['busy_elsewhere']:.1f} cores were busy with other work)" if disturbed else ""
    met = "met" if row["seconds"] <= TARGET else "**missed**"
    return [
        f"{facts['cpu']}, {stored['cores']} of its {facts['cores']} cores; commit "
        f"{facts['commit']}, {facts['date']}. torch {facts['packages']['torch']}.",
        "",
        "| cases | voxels | the whole command | target, on two cores | peak memory "
        "| reading all once |",
        "|---|---|---|---|---|---|",
        f"| {row['cases']} | {row['edge']}³ × {len(ORGANS) + 1} channels "
        f"| {duration(row['seconds'])}{said} | at most {TARGET:g} s: {met} "
        f"| {row['peak_bytes'] / 2**20:.0f} MiB | {duration(row['reading'])}, one thread |",
        "",
    ]


def page(folder: Path) -> str:
    """Return the page of all machines."""
    lines = [
        "# Evaluating a network",
        "",
        "Written by `python -m bench.evaluation`; "
        "[what is measured](../README.md#evaluating-a-network).",
        "",
    ]
    for path in sorted(folder.glob("evaluation-*.json")):
        lines += table(json.loads(path.read_text()))
    return "\n".join(lines)


def main() -> None:
    parser = ArgumentParser(prog="python -m bench.evaluation", description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--edge", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--markdown", action="store_true", help="only make the tables again")
    parser.add_argument("--output", type=Path, default=record.FOLDER, help="folder of results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.markdown:
        cores = len(os.sched_getaffinity(0))
        described = machine.description([cores])
        row = measure(options.cases, options.edge)
        content = {"machine": described, "cores": cores, "row": record.plain(row)}
        name = f"evaluation-{record.file_name(described['cpu'])}-{cores}-cores.json"
        text = json.dumps(content, ensure_ascii=False, indent=1)
        write_text(options.output / name, text + "\n")
    text = page(options.output)
    write_text(options.output / "evaluation.md", text)
    print(text)


if __name__ == "__main__":
    main()
