"""Each op has its benchmark, and each benchmark runs at a tiny size."""

from __future__ import annotations

import importlib
import math
import pkgutil

import pytest
import torch

from bench import gaussian_field as fields
from bench import memory, overhead, scaling
from bench.__main__ import COMPARED
from bench.case import DifferenceError, Size
from bench.comparison import Comparison
from bench.timing import steady
from marginseg import gaussian_field, ops

#: The modules of `marginseg.ops` that register an op of their name; the others serve these, and
#: `axis_factor` is computed once for each size.
OPS = [
    module.name
    for module in pkgutil.iter_modules(ops.__path__)
    if hasattr(torch.ops.marginseg, module.name) and module.name != "axis_factor"
]


@pytest.fixture(autouse=True)
def _threads():
    """The benchmark sets how many threads torch has."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_benchmark_compares_the_ops_and_nothing_else():
    assert OPS == [
        "assign_labels",
        "dice_threshold",
        "folded_share",
        "gaussian_field",
        "gaussian_filter",
        "sample",
        "warp",
    ]
    assert sorted(COMPARED) == OPS
    for op in OPS:
        assert importlib.import_module(f"bench.{op}").cases is COMPARED[op]


@pytest.mark.parametrize("op", OPS)
def test_every_case_and_peer_runs(op):
    comparison = Comparison(COMPARED[op], seconds=0.0, limit=60.0)
    rows = list(comparison.rows([Size(8), Size(6, 2)], [1]))
    assert {row.size for row in rows} == {"8³", "2×6³"}
    assert {row.op for row in rows} >= {op}
    timed = [row for row in rows if not row.left_out]
    # SciPy, NumPy and torch are always there.
    assert len({row.peer for row in timed}) >= 2
    for row in timed:
        assert row.check
        assert row.ratio == row.theirs.median / row.ours.median
        assert math.isfinite(row.ours_over_floor)
    left_out = [row.left_out for row in rows if row.left_out]
    assert all("is not installed" in reason for reason in left_out), left_out


def test_marginals_are_cases_of_the_filter():
    cases = list(COMPARED["gaussian_filter"](Size(16)))
    assert [case.setting for case in cases if case.op == "marginals"] == ["std 0.02", "std 0.06"]


def _wrong(std: float, length_scale: float) -> fields.Draw:
    def draw(size):
        edge = size.edge
        generator = torch.Generator().manual_seed(2)
        b = fields.DEFAULT_LENGTH_SCALE * edge * length_scale
        return lambda: gaussian_field(
            (edge,) * 3, fields.STD * edge * std, b, generator=generator, batch_shape=(1,)
        )

    return draw


@pytest.mark.parametrize("margin", [0, fields.MARGIN])
@pytest.mark.parametrize(
    ("std", "length_scale"), [(1.25, 1.0), (0.8, 1.0), (1.0, 1.25), (1.0, 0.8)]
)
def test_a_field_that_varies_otherwise_is_refused(std, length_scale, margin):
    draw = _wrong(std, length_scale)
    check = fields.resemblance(draw, draws=200, margin=margin)
    with pytest.raises(DifferenceError, match="of ours"):
        check(fields.ours(Size(8))(), draw(Size(8))())


def test_fewer_draws_allow_more():
    def allowed(draws):
        check = fields.resemblance(fields.plain, draws=draws)
        text = check(fields.ours(Size(8))(), fields.plain(Size(8))())
        return float(text.split(" allowed")[0].rpartition(" ")[2]) - 1.0

    # Ours is drawn 200 times in both.
    assert allowed(50) / allowed(200) == pytest.approx(math.sqrt((1 + 200 / 50) / 2), rel=0.25)


def test_a_field_of_another_shape_is_refused():
    check = fields.resemblance(fields.plain, draws=2)
    with pytest.raises(DifferenceError, match="shape"):
        check(fields.ours(Size(8))(), fields.plain(Size(8, 2))())


def test_every_op_is_called_where_there_is_nothing_to_do():
    calls = overhead.calls()
    ops = {"dice_threshold", "folded_share", "gaussian_field", "gaussian_filter", "warp"}
    assert ops <= set(calls)
    for call in calls.values():
        call()


@pytest.mark.parametrize("op", memory.TARGETS)
def test_what_memory_is_measured_of_runs(op):
    assert memory.call_of(op, 8)().shape[-3:] == (8, 8, 8)


@pytest.mark.parametrize("op", scaling.OPS)
def test_time_against_size_is_taken(op):
    assert steady(scaling.call_of(op, Size(8)), 0.0).median > 0.0
