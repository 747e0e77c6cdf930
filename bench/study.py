"""``python -m bench.study``: how long the quick study takes, the first thing that anyone runs.

The whole command, with its imports, phantoms, trainings and report, on the CPUs that this process
may use (``taskset -c 0,1`` gives it two), in each precision that they compute in.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import machine, record
from bench.commands import COMMAND
from bench.process import run
from bench.timing import duration
from marginseg.files.atomic import write_text
from marginseg.training.device import computing_dtype

#: Seconds that the quick study may take on two cores: a first look is worth so much patience.
TARGETS = {"bfloat16": 180.0, "float32": 300.0}

#: How much longer it may take in float32.
LARGEST_RATIO = 2.5


@dataclass(frozen=True)
class Row:
    """What one study took.

    Attributes:
        precision: Of its networks.
        seconds: From the start of the process to its end.
        trainings: How many networks were trained.
        busy_elsewhere: Cores that other processes kept busy meanwhile.

    """

    precision: str
    seconds: float
    trainings: int
    busy_elsewhere: float


def measure(precision: str, options: list[str]) -> Row:
    """Run the study in a process of its own, and throw away what it wrote."""
    with tempfile.TemporaryDirectory(prefix="marginseg-bench-") as folder:
        study = Path(folder, "study")
        with machine.BusyElsewhere() as others:
            arguments = ("study", "--device", "cpu", "--precision", precision, *options)
            process = run(COMMAND, *arguments, "-o", study)
        trainings = len((study / "runs.jsonl").read_text().splitlines())
    return Row(precision, process.seconds, trainings, others.cores)


def table(stored: dict[str, Any]) -> list[str]:
    """Return the lines of one machine's table."""
    facts = stored["machine"]
    lines = [
        f"{facts['cpu']}, {stored['cores']} of its {facts['cores']} cores; commit "
        f"{facts['commit']}, {facts['date']}. torch {facts['packages']['torch']}.",
        "",
        "| precision | trainings | the whole command | target, on two cores |",
        "|---|---|---|---|",
    ]
    times = {}
    for row in stored["rows"]:
        times[row["precision"]] = row["seconds"]
        target = TARGETS[row["precision"]]
        met = "met" if row["seconds"] <= target else "**missed**"
        disturbed = f" ({row['busy_elsewhere']:.1f} cores were busy with other work)"
        said = disturbed if row["busy_elsewhere"] > machine.UNDISTURBED else ""
        lines.append(
            f"| {row['precision']} | {row['trainings']} | {duration(row['seconds'])}{said} "
            f"| at most {target:g} s: {met} |"
        )
    if len(times) == 2:
        ratio = times["float32"] / times["bfloat16"]
        met = "met" if ratio <= LARGEST_RATIO else "**missed**"
        lines += ["", f"float32 over bfloat16: {ratio:.2f}; at most {LARGEST_RATIO}: {met}."]
    return [*lines, ""]


def present(folder: Path) -> None:
    """Write the page of all machines, and print it."""
    lines = [
        "# The quick study",
        "",
        "Written by `python -m bench.study`; [what is measured](../README.md#the-quick-study).",
        "",
    ]
    for path in sorted(folder.glob("study-*.json")):
        lines += table(json.loads(path.read_text()))
    page = "\n".join(lines)
    write_text(folder / "study.md", page)
    print(page)


def main() -> None:
    parser = ArgumentParser(prog="python -m bench.study", description=__doc__)
    parser.add_argument("--options", default="", help="more of `marginseg study`, for a rehearsal")
    parser.add_argument("--markdown", action="store_true", help="only make the tables again")
    parser.add_argument("--output", type=Path, default=record.FOLDER, help="folder of results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.markdown:
        cores = len(os.sched_getaffinity(0))
        described = machine.description([cores])
        native = computing_dtype("auto", "cpu") is torch.bfloat16
        rows: list[Row] = []
        name = f"study-{record.file_name(described['cpu'])}-{cores}-cores.json"
        for precision in ("bfloat16", "float32") if native else ("float32",):
            rows.append(measure(precision, shlex.split(options.options)))
            content = {"machine": described, "cores": cores, "rows": record.plain(rows)}
            text = json.dumps(content, ensure_ascii=False, indent=1)
            write_text(options.output / name, text + "\n")
    present(options.output)


if __name__ == "__main__":
    main()
