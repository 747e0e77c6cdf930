"""Every registered op under torch's transforms: derivatives, vmap, graphs. What no op can do, it
says; and an op that is missing here fails a test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import marginseg
from marginseg import GaussianFieldNoise, gaussian_field_ranks

ops = torch.ops.marginseg


def drawn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def field(*shape: int) -> torch.Tensor:
    """Draw a displacement; finite differences must not step over a kink of the interpolation."""
    values = 1.5 * drawn(*shape)
    return torch.where((values % 0.5) < 0.05, values + 0.1, values)


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Attributes:
        arguments: Of the op, float64 where it is floating.
        derivatives: Whether it is differentiable, twice and in both modes. If not, and if the
            output is floating, it says so.

    """

    arguments: tuple[Any, ...]
    derivatives: bool = False


OPTIONS = (2, "linear", "constant", 0.3)
FACTORS = [drawn(3, 2), drawn(4, 1)]
PROBABILITIES = drawn(3, 4, 5).sigmoid()
LABEL = drawn(3, 3, 4) > 0

CASES: dict[str, Case] = {
    "gaussian_filter": Case((drawn(2, 2, 4), [0.8, 1.5], "constant", 0.5, 3.0, "integrated"), True),
    "gaussian_filter_adjoint": Case((drawn(2, 2, 4), [0.8, 1.5], "wrap", 3.0, "sampled"), True),
    "axis_factor": Case((9, 2.5, torch.float64, torch.device("cpu"))),
    "gaussian_field": Case((drawn(2, 2, 1), FACTORS), True),
    "folded_share": Case((3 * drawn(3, 2, 2, 1), FACTORS)),
    "sample": Case((LABEL, drawn(2, 3, 2, 2, 1).float(), [f.float() for f in FACTORS], "linear")),
    "warp": Case((drawn(1, 2, 2, 3), field(1, 2, 2, 3), *OPTIONS), True),
    "warp_backward": Case(
        (drawn(1, 1, 2, 3), drawn(1, 1, 2, 3).neg(), field(1, 2, 2, 3), *OPTIONS), True
    ),
    "warp_double_backward": Case(
        (
            *(drawn(1, 1, 2, 3), drawn(1, 2, 2, 3).neg()),
            *(drawn(1, 1, 2, 3) + 1, drawn(1, 1, 2, 3) - 2, field(1, 2, 2, 3)),
            *OPTIONS,
        )
    ),
    "assign_labels": Case((PROBABILITIES, drawn(3, 4), drawn(3, 4), -1, 0.0)),
    "dice_threshold": Case((PROBABILITIES, 2, "iterate", 2.0)),
    "segment_dice_threshold": Case(
        (PROBABILITIES.flatten(), torch.tensor([0, 7, 7, 60]), "sort", 0.5)
    ),
    "dice_curve": Case((PROBABILITIES, 2, 2.0)),
}

DIFFERENTIABLE = [name for name, case in CASES.items() if case.derivatives]
REFUSING = [
    "folded_share",
    "assign_labels",
    "dice_threshold",
    "segment_dice_threshold",
    "dice_curve",
]


def registered() -> set[str]:
    """Return the names of all ops of the library."""
    names = torch._C._dispatch_get_all_op_names()
    return {name.removeprefix("marginseg::") for name in names if name.startswith("marginseg::")}


def test_every_op_is_here():
    assert registered() == set(CASES)


def floating(name: str) -> tuple[list[torch.Tensor], Callable[..., Any]]:
    """Return the floating tensors among an op's arguments, and the op as a function of them."""
    flat, rebuilt = tensors_of(name)
    places = [place for place, tensor in enumerate(flat) if tensor.is_floating_point()]

    def run(*values: torch.Tensor) -> Any:
        given = list(flat)
        for place, value in zip(places, values, strict=True):
            given[place] = value
        return getattr(ops, name)(*rebuilt(given))

    return [flat[place] for place in places], run


def tensors_of(name: str) -> tuple[list[torch.Tensor], Callable[..., tuple[Any, ...]]]:
    """Return an op's tensors in one list, and what makes its arguments of such a list."""
    arguments = CASES[name].arguments
    lists = [a if isinstance(a, list) else [a] for a in arguments]
    flat = [entry for entries in lists for entry in entries if isinstance(entry, torch.Tensor)]

    def rebuilt(values: list[torch.Tensor]) -> tuple[Any, ...]:
        left = iter(values)

        def replaced(argument: Any) -> Any:
            if isinstance(argument, list):
                return [replaced(entry) for entry in argument]
            return next(left) if isinstance(argument, torch.Tensor) else argument

        return tuple(map(replaced, arguments))

    return flat, rebuilt


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name):
    op = getattr(ops, name).default
    torch.library.opcheck(op, CASES[name].arguments)
    if CASES[name].derivatives:
        values, rebuilt = tensors_of(name)
        leaves = [value.clone().requires_grad_() for value in values]
        torch.library.opcheck(op, rebuilt(leaves))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_both_modes(name):
    values, run = floating(name)
    leaves = [value.clone().requires_grad_() for value in values]
    batched = name != "gaussian_field"  # of lists of tensors gradcheck makes no batches
    assert torch.autograd.gradcheck(
        run,
        leaves,
        check_forward_ad=True,
        check_batched_grad=batched,
        check_batched_forward_grad=batched,
    )


#: Of warp, a third derivative is refused.
TWICE = [name for name in DIFFERENTIABLE if name != "warp_backward"]


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(name):
    values, run = floating(name)
    leaves = [value.clone().requires_grad_() for value in values]
    assert torch.autograd.gradgradcheck(run, leaves, check_fwd_over_rev=True, atol=1e-4)


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_backwards_through_forwards(name):
    values, run = floating(name)
    directions = tuple(drawn(*value.shape).neg() for value in values)

    def loss(*given: torch.Tensor) -> torch.Tensor:
        return (run(*given) ** 3).sum()

    _, expected = torch.autograd.functional.vhp(loss, tuple(values), directions)
    leaves = [value.clone().requires_grad_() for value in values]
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(loss(*map(forward_ad.make_dual, leaves, directions))).tangent
        found = torch.autograd.grad(slope, leaves)
    torch.testing.assert_close(found, expected)


def test_the_derivative_of_warp_in_a_direction_is_differentiable():
    values, run = floating("warp_double_backward")
    weights = [value.clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(lambda *given: run(*given)[0], weights)
    assert torch.autograd.gradcheck(
        lambda *given: run(*given, *values[3:]),
        weights[:3],
        check_forward_ad=True,
        check_backward_ad=False,
    )


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_torch_func_gives_what_autograd_gives(name):
    values, run = floating(name)

    def loss(*given: torch.Tensor) -> torch.Tensor:
        outputs = run(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return sum((output**3).sum() for output in outputs)

    leaves = [value.clone().requires_grad_() for value in values]
    places = tuple(range(len(values)))
    expected = torch.autograd.grad(loss(*leaves), leaves)
    found = torch.func.grad(loss, argnums=places)(*values)
    torch.testing.assert_close(found, expected)
    directions = tuple(drawn(*value.shape).neg() for value in values)
    _, slope = torch.func.jvp(loss, tuple(values), directions)
    by_hand = sum((a * b).sum() for a, b in zip(expected, directions, strict=True))
    torch.testing.assert_close(slope, by_hand)


@pytest.mark.parametrize("name", ["gaussian_filter", "gaussian_field", "warp"])
def test_hessians_of_torch_func(name):
    values, run = floating(name)
    last = len(values) - 1  # of a factor, and of a displacement

    def loss(value: torch.Tensor) -> torch.Tensor:
        return (run(*values[:last], value) ** 3).sum()

    expected = torch.autograd.functional.hessian(loss, values[last])
    forward, reverse = torch.func.jacfwd, torch.func.jacrev
    for outer, inner in itertools.product((forward, reverse), repeat=2):
        if name == "warp" and outer is inner is forward:
            with pytest.raises(NotImplementedError, match="^warp: differentiable twice"):
                outer(inner(loss))(values[last])
            continue
        torch.testing.assert_close(outer(inner(loss))(values[last]), expected)


@pytest.mark.parametrize("name", REFUSING)
def test_what_has_no_derivative_says_so(name):
    values, run = floating(name)
    message = f"^{name}: not differentiable"
    tangents = tuple(torch.ones_like(value) for value in values)

    def loss(*given: torch.Tensor) -> torch.Tensor:
        output = run(*given)
        outputs = output if isinstance(output, tuple) else (output,)
        return next(each for each in outputs if each.is_floating_point()).sum()

    with pytest.raises(NotImplementedError, match=message):
        torch.func.jvp(loss, tuple(values), tangents)
    with pytest.raises(NotImplementedError, match=message):
        torch.func.grad(loss)(*values)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=message):
        run(forward_ad.make_dual(values[0], tangents[0]), *values[1:])


def test_public_functions_refuse_derivatives_of_a_threshold_and_not_of_a_segmentation():
    for solve in (
        lambda m: marginseg.dice_threshold(m, spatial_dims=2).dice.sum(),
        lambda m: marginseg.optimal_threshold(m, spatial_dims=2).sum(),
        lambda m: marginseg.dice_curve(m).dice.sum(),
        lambda m: marginseg.optimal_labels(m, spatial_dims=2).value.sum(),
    ):
        with pytest.raises(NotImplementedError, match="not differentiable"):
            torch.func.grad(solve)(PROBABILITIES)
        with pytest.raises(NotImplementedError, match="not differentiable"):
            torch.func.jvp(solve, (PROBABILITIES,), (PROBABILITIES,))

    def kept(m: torch.Tensor) -> torch.Tensor:
        return (m * marginseg.optimal_segmentation(m, spatial_dims=2)).sum()

    inside = marginseg.optimal_segmentation(PROBABILITIES, spatial_dims=2).double()
    assert torch.equal(torch.func.grad(kept)(PROBABILITIES), inside)


@pytest.mark.parametrize("name", [name for name in CASES if name != "axis_factor"])
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap(name, dim):
    op = getattr(ops, name)
    flat, rebuilt = tensors_of(name)
    # Every tensor alone, and all of them; offsets are the same for all.
    some = [(place,) for place in range(len(flat))]
    for places in [*some, tuple(range(len(flat)))]:
        batched = list(flat)
        dims: list[int | None] = [None] * len(flat)
        for place in places:
            shifted = [flat[place].roll(step, -1) for step in range(3)]
            if flat[place].dtype is torch.int64:
                shifted = [flat[place]] * 3
            batched[place] = torch.stack(shifted, dim)
            dims[place] = dim
        found = torch.vmap(lambda *given: op(*rebuilt(list(given))), tuple(dims))(*batched)
        expected = [
            op(
                *rebuilt(
                    [
                        value if where is None else value.select(where, entry)
                        for value, where in zip(batched, dims, strict=True)
                    ]
                )
            )
            for entry in range(3)
        ]
        if isinstance(found, torch.Tensor):
            found, expected = (found,), [(one,) for one in expected]
        for result, each in zip(found, zip(*expected, strict=True), strict=True):
            torch.testing.assert_close(result, torch.stack(each), rtol=1e-12, atol=1e-12)


def test_vmap_of_public_functions():
    noise = GaussianFieldNoise(std=1.0, units="voxel", spatial_dims=2)
    displacement = field(2, 4, 5)
    for call in (
        lambda m: marginseg.gaussian_filter(m, 1.2),
        lambda m: marginseg.warp(m, displacement),
        marginseg.optimal_segmentation,
        marginseg.optimal_threshold,
        noise.marginals,
    ):
        expected = torch.stack([call(m) for m in PROBABILITIES])
        torch.testing.assert_close(torch.vmap(call)(PROBABILITIES), expected)


def test_vmap_of_vmap_and_of_derivatives():
    values = drawn(2, 3, 4, 5)

    def smooth(m: torch.Tensor) -> torch.Tensor:
        return marginseg.gaussian_filter(m, (1.2, 0.7), mode="reflect")

    torch.testing.assert_close(torch.vmap(torch.vmap(smooth))(values), smooth(values))
    each = torch.vmap(torch.func.grad(lambda m: (smooth(m) ** 3).sum()))(values[0])
    leaf = values[0].clone().requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad((smooth(leaf) ** 3).sum(), leaf)[0])


@pytest.mark.parametrize("mode", ["constant", "nearest", "reflect", "mirror", "wrap"])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (2, 0, 4)])
def test_derivatives_of_nothing(mode, shape):
    values = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    filtered = marginseg.gaussian_filter(values, (1.0, 0.5), mode=mode)
    (gradient,) = torch.autograd.grad(filtered.sum(), values)
    assert gradient.shape == shape


def test_what_torch_negates_or_fills_on_the_way():
    """Some tensors' memory does not hold their values: torch says so by a bit."""
    negated = drawn(2).to(torch.complex128)[:1].mul(1j).conj().imag
    assert negated.is_neg()
    assert negated.is_contiguous()
    assert marginseg.gaussian_filter(negated, 0.0).item() == negated.item()
    zeros = torch._efficientzerotensor((3, 4))
    assert not marginseg.gaussian_filter(zeros, 1.0).any()


RANKS = gaussian_field_ranks((6, 7), 3.0)
MODEL = GaussianFieldNoise(std=0.1)

#: Calls of several shapes and numbers, of what is public.
COMPILED: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
    "gaussian_filter": (
        lambda m, sigma, truncate: marginseg.gaussian_filter(m, sigma, truncate=truncate),
        [(drawn(4, 5), 1.0, 4.0), (drawn(6, 7), 1.5, 3.0), (drawn(3, 8), 0.5, 2.0)],
    ),
    "gaussian_field": (
        lambda c: marginseg.gaussian_field(
            (6, 7), 1.0, 3.0, coefficients=c, batch_shape=c.shape[:1]
        ),
        [(drawn(2, 2, *RANKS).float(),), (drawn(5, 2, *RANKS).float(),)],
    ),
    "gaussian_field, drawn": (
        lambda m: marginseg.gaussian_field(m.shape, (1.0, 2.0), 3.0),
        [(drawn(4, 5),), (drawn(6, 7),)],
    ),
    "warp": (
        lambda m, x: marginseg.warp(m, x, mode="wrap"),
        [(drawn(4, 5), drawn(2, 4, 5)), (drawn(6, 7), drawn(2, 6, 7))],
    ),
    "marginals": (
        MODEL.marginals,
        [((drawn(4, 5) > 0).byte(),), ((drawn(6, 7) > 0).byte(),), (drawn(3, 8).sigmoid(),)],
    ),
    "marginals of classes": (
        lambda label: MODEL.marginals(label, classes=[1, 2]),
        [((drawn(4, 5) > 0).byte(),), ((drawn(6, 7) > 0).byte(),)],
    ),
    "sample_folded": (
        lambda label: MODEL.sample_folded(label, 2),
        [((drawn(4, 5) > 0).byte(),), ((drawn(6, 7) > 0).byte(),)],
    ),
    "optimal_segmentation": (
        lambda m: marginseg.optimal_segmentation(m, spatial_dims=2),
        [(drawn(2, 4, 5).sigmoid(),), (drawn(3, 6, 7).sigmoid(),)],
    ),
    "optimal_threshold": (marginseg.optimal_threshold, [(PROBABILITIES,), (PROBABILITIES[1:],)]),
    "optimal_threshold of F_beta": (
        lambda m, beta: marginseg.optimal_threshold(m, "fbeta", beta=beta, spatial_dims=2),
        [(PROBABILITIES, 2.0), (PROBABILITIES[1:], 0.5)],
    ),
    "dice_curve": (
        lambda m: tuple(marginseg.dice_curve(m)),
        [(drawn(2, 4, 5).sigmoid(),), (drawn(3, 6, 7).sigmoid(),)],
    ),
    "cut": (marginseg.cut, [(PROBABILITIES, 0.3), (PROBABILITIES[1:], 0.4)]),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiles_for_several_shapes(name):
    function, calls = COMPILED[name]
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for arguments in calls:
        results = []
        for call in (compiled, function):
            torch.manual_seed(0)
            results.append(call(*arguments))
        torch.testing.assert_close(*results)
