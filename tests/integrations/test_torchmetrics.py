"""The metric beside direct computations, in one process and in two."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

torchmetrics = pytest.importorskip("torchmetrics")
from marginseg.integrations.torchmetrics import DiceAtOptimum  # noqa: E402

GRID = (0.1, 0.25, 0.5, 0.8, 1.0)


def cases(n: int = 6, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with much ambiguity, and labels drawn from other probabilities than they promise."""
    generator = torch.Generator().manual_seed(n)
    maps = torch.rand(n, classes, 5, 4, 3, generator=generator) ** 3
    labels = torch.rand(maps.shape, generator=generator) < maps.sqrt()
    maps[0, :, 0, 0] = torch.tensor([0.25, 0.5, 1.0])  # values that are thresholds
    labels[1, 0] = False
    labels[2, -1], maps[2, -1] = False, 0.0  # both empty, at every threshold
    labels[3, 0], maps[3, 0] = False, maps[3, 0] / 4  # both empty at ½, not at t*
    return maps, labels


def dice_of(cut: np.ndarray, label: np.ndarray, empty: str) -> float:
    volume = int(cut.sum()) + label.sum()
    if not label.any() and (empty == "skip" or (empty == "nan" and not cut.any())):
        return np.nan
    return 1.0 if volume == 0 else float(2 * (cut & label).sum() / volume)


def best_cut(m: np.ndarray) -> tuple[float, float]:
    """Return t* and sup D of a map by trying all its cuts."""
    m = m.astype(np.float64)
    if m.sum() == 0:
        return 0.5, 1.0
    best = max(2 * m[m >= t].sum() / (m.sum() + (m >= t).sum()) for t in np.unique(m))
    return best / 2, best


def directly(
    maps: torch.Tensor, labels: torch.Tensor, empty: str = "one", grid: Any = GRID
) -> dict[str, float]:
    """Compute all results from lists of cases, with NumPy and without a histogram."""
    result: dict[str, float] = {}
    for channel in range(maps.shape[1]):
        rows = []
        for m, label in zip(maps[:, channel].numpy(), labels[:, channel].numpy(), strict=True):
            m = m.astype(np.float64)
            threshold, promised = best_cut(m)
            half, best = (dice_of(m >= t, label, empty) for t in (0.5, threshold))
            if np.isnan(best):
                threshold = promised = np.nan
            # Rightly empty is 1 beside what is segmented where the label has nothing.
            after, before = (1.0 if np.isnan(value) else value for value in (best, half))
            change = np.nan if np.isnan(best) and np.isnan(half) else after - before
            worse = np.nan if np.isnan(change) else change < 0
            curve = [dice_of(m >= t, label, empty) for t in grid]
            rows.append((half, best, promised, threshold, worse, change, *curve))
        table = np.array(rows)
        means = np.nanmean(table, 0)
        result |= {
            f"dice_at_half/{channel}": means[0],
            f"dice_at_optimum/{channel}": means[1],
            f"dice_promised/{channel}": means[2],
            f"threshold_at_optimum/{channel}": means[3],
            f"worse/{channel}": means[4],
            f"worst_change/{channel}": np.nanmin(table[:, 5]),
            f"dice_at_single/{channel}": np.nanmax(means[6:]),
            f"threshold_at_single/{channel}": grid[int(np.nanargmax(means[6:]))],
        }
    for name in {key.partition("/")[0] for key in result}:
        values = [value for key, value in result.items() if key.startswith(f"{name}/")]
        result[name] = min(values) if name == "worst_change" else sum(values) / len(values)
    return result


def assert_agrees(found: dict[str, torch.Tensor], expected: dict[str, float]) -> None:
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.shape == ()
        assert float(value) == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("empty", ["one", "nan", "skip"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_as_directly(empty, dtype):
    maps, labels = cases()
    maps = maps.to(dtype)
    metric = DiceAtOptimum(2, empty=empty, thresholds=GRID)
    metric.update(maps[:4], labels[:4])
    metric.update(maps[4:], labels[4:].float())
    found = metric.compute()
    assert_agrees(found, directly(maps, labels, empty))
    assert found["worse"] > 0
    assert found["dice_at_optimum"] != found["dice_at_half"]


def test_what_t_star_paints_in_a_healthy_case_is_a_loss():
    """Where the cut at ½ is rightly empty, which counts for nothing in the means."""
    metric = DiceAtOptimum(1, empty="nan")
    maps = torch.full((1, 1, 4, 4), 0.2)
    metric.update(maps, torch.zeros_like(maps))
    found = metric.compute()
    assert (float(found["worse"]), float(found["worst_change"])) == (1.0, -1.0)
    assert found["dice_at_half"].isnan()


def test_empty_cases_count_as_told():
    maps, labels = cases()
    values = []
    for empty in ("one", "nan", "skip"):
        metric = DiceAtOptimum(2, empty=empty)
        metric.update(maps, labels)
        values.append(float(metric.compute()["dice_at_half"]))
    assert len(set(values)) == 3
    metric = DiceAtOptimum(2, empty="skip")
    metric.update(maps[:2], torch.zeros_like(labels[:2]))
    assert all(value.isnan() for value in metric.compute().values())
    metric.update(maps[4:], labels[4:] & torch.tensor([True, False])[:, None, None, None])
    found = metric.compute()
    assert found["dice_at_half/1"].isnan()
    assert found["dice_at_half"] == found["dice_at_half/0"]
    assert found["worst_change"] == found["worst_change/0"]


def test_soft_labels():
    """Dice of Definition 4, with a marginal where the label stands."""
    maps, labels = cases(4, 1)
    soft = (0.7 * labels + 0.1).double()
    metric = DiceAtOptimum(["a"], thresholds=(0.25, 0.5))
    metric.update(maps, soft)
    found = metric.compute()
    curve = []
    for t in (0.25, 0.5):
        s = maps >= t
        overlap = (s * soft).flatten(1).sum(1)
        curve.append((2 * overlap / (s.flatten(1).sum(1) + soft.flatten(1).sum(1))).mean())
    assert float(found["dice_at_half/a"]) == pytest.approx(float(curve[1]), abs=1e-12)
    assert float(found["dice_at_single"]) == pytest.approx(float(max(curve)), abs=1e-12)


def test_hundredths_are_the_default_and_ties_go_to_half():
    label = torch.zeros(1, 1, 10, dtype=torch.bool)
    label[..., :4] = True
    metric = DiceAtOptimum(1)
    metric.update(label.float(), label)  # the same Dice at every threshold
    assert float(metric.compute()["threshold_at_single"]) == 0.5
    metric.reset()
    metric.update(torch.where(label, 0.37, 0.1), label)  # the best cuts are those from 0.11 to 0.37
    found = metric.compute()
    assert float(found["threshold_at_single"]) == 0.37
    assert float(found["dice_at_single"]) == 1.0


def test_a_threshold_that_float32_cannot_hold():
    """The float32 nearest to 0.1 is above 0.1; the one nearest to 0.7 is below."""
    maps = torch.tensor([0.1, 0.7, 0.0]).reshape(1, 1, 3)
    label = torch.tensor([1, 1, 0]).reshape(1, 1, 3)
    for thresholds, dice in (((0.1,), 1.0), ((0.7,), 0.0)):
        metric = DiceAtOptimum(1, thresholds=thresholds)
        metric.update(maps, label)
        assert float(metric.compute()["dice_at_single"]) == dice


def test_forward_reset_and_a_collection():
    maps, labels = cases()
    metric = DiceAtOptimum(2, thresholds=GRID)
    of_batch = metric(maps[:3], labels[:3])
    assert_agrees(of_batch, directly(maps[:3], labels[:3]))
    metric(maps[3:], labels[3:])
    assert_agrees(metric.compute(), directly(maps, labels))
    metric.reset()
    metric.update(maps[3:], labels[3:])
    assert_agrees(metric.compute(), directly(maps[3:], labels[3:]))
    collection = torchmetrics.MetricCollection({"dice": DiceAtOptimum(2)}, prefix="val/")
    collection.update(maps, labels)
    assert "val/dice_at_half/1" in collection.compute()


@pytest.mark.parametrize(
    "settings",
    [
        [{"empty": empty} for empty in ("one", "nan", "skip")],
        [{"thresholds": (0.3, 0.5)}, {"thresholds": (0.5, 0.7)}],
    ],
)
def test_a_collection_does_not_merge_metrics_of_other_settings(settings):
    """After the first batch, of sure maps without an empty label, all sums are the same."""
    maps, labels = cases()
    batches = [(labels[4:].float(), labels[4:]), (maps, labels)]
    alone = {f"{i}": DiceAtOptimum(2, **arguments) for i, arguments in enumerate(settings)}
    alone["twin"] = DiceAtOptimum(["a", "b"], **settings[0])
    collection = torchmetrics.MetricCollection({name: m.clone() for name, m in alone.items()})
    for batch in batches:
        collection.update(*batch)
    found = collection.compute()
    results = []
    for name, metric in alone.items():
        for batch in batches:
            metric.update(*batch)
        results.append(metric.compute())
        for key, value in results[-1].items():
            assert torch.equal(found[f"{name}_{key}"], value), (name, key)
    assert len({tuple(map(float, result.values())) for result in results[:-1]}) == len(settings)
    # What has the same settings is updated once, whatever its classes are called.
    assert ["0", "twin"] in collection.compute_groups.values()


def test_states_stay_doubles_on_their_device():
    assert DiceAtOptimum(2).to("meta").curve.device.type == "meta"
    maps, labels = cases()
    for convert in (torch.nn.Module.half, lambda module: module.to(torch.bfloat16)):
        module = torch.nn.Sequential(DiceAtOptimum(2, thresholds=GRID))
        metric = convert(module)[0]
        metric.update(maps, labels)
        assert_agrees(metric.compute(), directly(maps, labels))
        metric.reset()
        assert metric.curve.dtype == metric.worst_change.dtype == torch.float64
    assert DiceAtOptimum(2).state_dict() == {}


class Named(torch.Tensor):
    """A tensor with something besides, as MONAI's; what is computed from it is one too."""


def test_subclasses_of_tensors_leave_no_trace():
    maps, labels = cases()
    metric, plain = (DiceAtOptimum(2, thresholds=GRID) for _ in range(2))
    plain(maps, labels)
    of_batch = metric(maps.as_subclass(Named), labels.float().as_subclass(Named))
    metric.update(maps.as_subclass(Named), labels.as_subclass(Named))
    plain.update(maps, labels)
    found = metric.compute()
    states = [getattr(metric, name) for name in metric._defaults]
    kinds = {type(value) for value in (*states, *of_batch.values(), *found.values())}
    assert kinds == {torch.Tensor}
    assert all(torch.equal(found[name], value) for name, value in plain.compute().items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.uint16, torch.int64])
def test_labels_of_integers(dtype):
    maps, labels = cases()
    metric = DiceAtOptimum(2, empty="nan", thresholds=GRID)
    metric.update(maps, labels.to(dtype))
    assert_agrees(metric.compute(), directly(maps, labels, "nan"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype):
    maps, labels = cases()
    metric, wide = DiceAtOptimum(2, thresholds=GRID), DiceAtOptimum(2, thresholds=GRID)
    metric.update(maps.to(dtype), labels)
    wide.update(maps.to(dtype).double(), labels)
    for name, value in metric.compute().items():
        assert float(value) == pytest.approx(float(wide.compute()[name]), abs=1e-12), name


@pytest.mark.parametrize(
    ("maps", "target", "message"),
    [
        (torch.rand(2, 3, 4), torch.rand(2, 3, 4), r"^probabilities: expected shape \(batch, 2,"),
        (torch.rand(2, 2), torch.rand(2, 2), r"^probabilities: expected shape \(batch, 2,"),
        (torch.rand(2, 2, 4), torch.rand(2, 2, 5), r"^target: expected shape \(2, 2, 4\)"),
        (torch.rand(2, 2, 4), torch.full((2, 2, 4), 3), r"^target: expected values within"),
        (torch.rand(2, 2, 4), torch.full((2, 2, 4), math.nan), r"^target: .* got NaN;"),
        (torch.rand(2, 2, 4) + 1, torch.rand(2, 2, 4), r"^probabilities: expected values within"),
    ],
)
def test_what_does_not_fit_is_refused(maps, target, message):
    metric = DiceAtOptimum(2)
    with pytest.raises(ValueError, match=message):
        metric.update(maps, target)
    assert float(metric.counts.sum()) == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="^empty: "):
        DiceAtOptimum(1, empty="zero")
    for thresholds in ((), (0.0, 0.5), (0.5, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="^thresholds: "):
            DiceAtOptimum(1, thresholds=thresholds)
    for classes in ((), 0, ("a", "a")):
        with pytest.raises(ValueError, match="^classes: "):
            DiceAtOptimum(classes)
    with pytest.raises(TypeError, match="^classes: "):
        DiceAtOptimum("liver")
    with pytest.raises(TypeError, match="^probabilities, target: "):
        DiceAtOptimum(1).update(np.zeros((1, 1, 3)), torch.zeros(1, 1, 3))


def in_a_process(rank: int, port: int, folder: str) -> None:
    """Count two cases here and four there; both processes then know all six."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    maps, labels = cases()
    metric = DiceAtOptimum(2, thresholds=GRID)
    nobody = DiceAtOptimum(2, thresholds=GRID)  # one process has no case at all
    mine = slice(0, 2) if rank == 0 else slice(2, 6)
    for case in range(*mine.indices(6)):
        metric.update(maps[case : case + 1], labels[case : case + 1])
    if rank == 1:
        nobody.update(maps, labels)
    before = metric.sums.clone()
    torch.save((metric.compute(), nobody.compute()), Path(folder) / f"{rank}.pt")
    # What is this process's own is back after the synchronised results.
    assert torch.equal(metric.sums, before)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_know_what_one_would(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(in_a_process, (port, str(tmp_path)), nprocs=2)
    maps, labels = cases()
    expected = directly(maps, labels)
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt"):
            assert_agrees(found, expected)


def test_no_case_at_all_is_nan():
    metric = DiceAtOptimum(2)
    with pytest.warns(UserWarning, match="compute"):
        found = metric.compute()
    assert all(math.isnan(value) for value in found.values())
