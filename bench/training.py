"""``python -m bench.training``: training steps, beside an eager float32 loop and MONAI's network.

All take the same steps: augmentation, forwards, backwards, Adam, batch 1. Ours trains several
networks side by side, a process a core on a CPU and a thread a stream on a GPU. The others train
one, with all cores.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from bench import machine, record
from bench.case import DifferenceError, optional
from bench.gpu.machine import copy_bandwidth
from bench.gpu.machine import description as gpu_description
from bench.timing import Timing, duration, summary
from marginseg import UNet, cross_entropy
from marginseg.files.atomic import write_text
from marginseg.training.augmentation import augment
from marginseg.training.device import computing_device, computing_dtype
from marginseg.training.step import CapturedStep, Step, adam, channels_last
from marginseg.training.unet import InstanceNorm

#: Takes so many steps, and returns the seconds that they took.
Runner = Callable[[int], float]

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-5
CASES = 8
#: Epochs and cases of one training of the paper (§5).
PAPER_STEPS = 100 * 320


@dataclass(frozen=True)
class Setting:
    """What is trained: the network's channels and the patch."""

    features: tuple[int, ...]
    shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.features))}, {'×'.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Row:
    """What one way of training reached."""

    setting: str
    way: str
    networks: int
    round: Timing | None = None
    milliseconds_a_step: float | None = None
    trainings_an_hour: float | None = None
    over_ours: float | None = None
    left_out: str = ""


def cases(setting: Setting, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(0)
    found = []
    for _ in range(CASES):
        image = torch.randn(setting.shape, generator=source)
        found.append((image.to(device), (image > 1.5).to(torch.uint8).to(device)))
    return found


class Ours:
    """Our step on one network: data on the device, bfloat16 where it has that, a graph on a GPU."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        model = UNet(features=setting.features).to(device)
        model = model.to(memory_format=channels_last(3))  # type: ignore[call-overload]
        kind = CapturedStep if device.type == "cuda" else Step
        optimiser = adam(model, LEARNING_RATE, WEIGHT_DECAY)
        self._step = kind(model, optimiser, cross_entropy, computing_dtype("auto", device))
        self._cases = cases(setting, device)
        self._generator = torch.Generator().manual_seed(1)

    def __call__(self, steps: int) -> None:
        for place in range(steps):
            self._step(*augment(*self._cases[place % CASES], generator=self._generator))
        float(self._step.total)


def plain_loop(model: nn.Module, setting: Setting, device: torch.device) -> Runner:
    """Return the loop that one writes first: float32, data copied and the loss read each step."""
    model = model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    pairs = cases(setting, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)

    def run(steps: int) -> float:
        start = perf_counter()
        for place in range(steps):
            image, label = augment(*pairs[place % CASES], generator=generator)
            logits = model(image[None, None].to(device))
            loss = cross_entropy(logits, label[None, None].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        return perf_counter() - start

    return run


def eager(setting: Setting, device: torch.device) -> Runner:
    model = UNet(features=setting.features)
    for block in (*model.encoder, *model.decoder):
        assert isinstance(block, nn.Sequential)
        for place, layer in enumerate(block):
            if isinstance(layer, InstanceNorm):
                block[place] = nn.InstanceNorm3d(len(layer.weight), affine=True)
    return plain_loop(model, setting, device)


def monai(setting: Setting, device: torch.device) -> Runner:
    """Return the loop with MONAI's network of the same levels: two convolutions each.

    One of the two has the stride, which is a convolution of its own in ours: it has four fifths of
    our parameters.
    """
    levels = len(setting.features)
    model = optional("monai.networks.nets").DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(setting.features),
        norm_name=("instance", {"affine": True}),
    )
    count = sum(p.numel() for p in model.parameters())
    of_ours = sum(p.numel() for p in UNet(features=setting.features).parameters())
    if not 0.75 * of_ours < count < of_ours:
        raise DifferenceError(f"it has {count} parameters, ours {of_ours}")
    return plain_loop(model, setting, device)


def _serve(connection: Connection, setting: Setting) -> None:
    torch.set_num_threads(1)
    ours = Ours(setting, torch.device("cpu"))
    while steps := connection.recv():
        ours(steps)
        connection.send(None)


@contextmanager
def processes(setting: Setting, count: int) -> Iterator[Runner]:
    """Run ours in so many processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    links = []
    for _ in range(count):
        link, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, setting), daemon=True).start()
        links.append(link)

    def run(steps: int) -> float:
        start = perf_counter()
        for link in links:
            link.send(steps)
        for link in links:
            link.recv()
        return perf_counter() - start

    try:
        yield run
    finally:
        for link in links:
            link.send(0)


@contextmanager
def threads(setting: Setting, count: int) -> Iterator[Runner]:
    """Run ours in so many threads, each with a stream of its own."""
    device = torch.device("cuda")
    streams = [torch.cuda.Stream() for _ in range(count)]
    networks = []
    for stream in streams:
        with torch.cuda.stream(stream):
            networks.append(Ours(setting, device))

    def work(place: int, steps: int) -> None:
        with torch.cuda.stream(streams[place]):
            networks[place](steps)

    def run(steps: int) -> float:
        start = perf_counter()
        crew = [threading.Thread(target=work, args=(place, steps)) for place in range(count)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        return perf_counter() - start

    yield run


def rows(
    setting: Setting, device: torch.device, counts: list[int], steps: int, rounds: int
) -> Iterator[list[Row]]:
    """Let all ways take turns of ``steps`` steps; yield what each has reached, after each round."""
    side_by_side = threads if device.type == "cuda" else processes
    ways: dict[str, tuple[int, Runner]] = {}
    left_out: list[Row] = []
    with ExitStack() as stack:
        for count in counts:
            name = f"marginseg, {count} at once"
            ways[name] = count, stack.enter_context(side_by_side(setting, count))
        ways["eager float32 loop"] = 1, eager(setting, device)
        try:
            peer = monai(setting, device)
            peer(2)
            ways["MONAI DynUNet, eager float32"] = 1, peer
        except Exception as error:  # what a peer may raise is not ours to know
            reason = str(error).partition("\n")[0] or type(error).__name__
            left_out = [Row(setting.name, "MONAI DynUNet, eager float32", 1, left_out=reason)]
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _, run in ways.values():
            run(2)
        for _ in range(rounds):
            for name, (_, run) in ways.items():
                times[name].append(run(steps))
            yield [*left_out, *_reached(setting, ways, times, steps)]


def _reached(
    setting: Setting,
    ways: dict[str, tuple[int, Runner]],
    times: dict[str, list[float]],
    steps: int,
) -> Iterator[Row]:
    ours = min(summary(times[way]).median / ways[way][0] for way in ways if "marginseg" in way)
    for name, (count, _) in ways.items():
        timing = summary(times[name])
        seconds = timing.median / steps / count
        yield Row(
            setting.name,
            name,
            count,
            timing,
            1e3 * timing.median / steps,
            3600.0 / (PAPER_STEPS * seconds),
            timing.median / count / ours,
        )


HEADINGS = ("network and patch", "way", "a step", "trainings an hour", "over ours")


def table(stored: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    for row in stored:
        cells = [row["setting"], row["way"]]
        if row["left_out"]:
            cells += ["–", "–", f"left out: {row['left_out']}"]
        else:
            cells += [duration(row["milliseconds_a_step"] / 1e3), f"{row['trainings_an_hour']:.3g}"]
            cells += [f"{row['over_ours']:.3g} ×"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(folder: Path) -> str:
    """Return the tables of all machines that were measured, as a page of Markdown."""
    texts = [
        "# Training",
        "",
        "Written by `python -m bench.training`; [what is measured](../README.md#training).",
        "",
    ]
    head = len(texts)
    for path in sorted(folder.glob("training-*.json")):
        stored = json.loads(path.read_text())
        facts = stored["machine"]
        where = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
        texts += [f"{where}; commit {facts['commit']}, {facts['date']}.", ""]
        texts += [table(stored["rows"]), ""]
    return "\n".join(texts if len(texts) > head else [*texts, "Unmeasured.", ""])


def present(folder: Path) -> None:
    """Write the page, and print it."""
    page = markdown(folder)
    write_text(folder / "training.md", page)
    print(page)


def main() -> None:
    parser = ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument(
        "--settings",
        default="8-16-32:32x32x32,8-16-32-64:32x48x32,16-32-64-128-256:64x64x64",
        help="channels of the levels, a colon, and the patch",
    )
    parser.add_argument("--counts", help="networks at once; default: the cores, or 1,4 on a GPU")
    parser.add_argument("--steps", type=int, default=10, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--markdown", action="store_true", help="only make the tables again")
    parser.add_argument("--output", type=Path, default=record.FOLDER, help="folder of results")
    options = parser.parse_args()
    if options.markdown:
        present(options.output)
        return
    device = computing_device(options.device)
    on_gpu = device.type == "cuda"
    cores = len(os.sched_getaffinity(0))
    counts = [int(n) for n in (options.counts or ("1,4" if on_gpu else f"{cores}")).split(",")]
    torch.set_num_threads(cores)
    with device:
        described = gpu_description(copy_bandwidth()) if on_gpu else machine.description([cores])
    name = f"training-{record.file_name(described['gpu']) if on_gpu else 'cpu'}.json"
    options.output.mkdir(parents=True, exist_ok=True)
    measured: list[Row] = []
    for text in options.settings.split(","):
        features, _, shape = text.partition(":")
        z, y, x = map(int, shape.split("x"))
        setting = Setting(tuple(map(int, features.split("-"))), (z, y, x))
        found: list[Row] = []
        for found in rows(setting, device, counts, options.steps, options.rounds):
            # Whoever stops it keeps what was measured.
            content = {"machine": described, "rows": record.plain([*measured, *found])}
            stored = json.dumps(content, ensure_ascii=False, indent=1)
            write_text(options.output / name, stored + "\n")
        measured += found
        print(table(record.plain(found)), flush=True)
    present(options.output)


if __name__ == "__main__":
    main()
