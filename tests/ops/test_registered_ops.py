"""The registered ops are called by compiled graphs too: each refuses what its kernel cannot take.

The kernels trust what they get. What is missing in these checks reads memory that is not there.
"""

from __future__ import annotations

import math
import re

import pytest
import torch
from tests.ops.test_transforms import registered

ops = torch.ops.marginseg

# Good arguments of each op, in its order.
IMAGE, FIELD = torch.rand(4, 5), torch.rand(2, 4, 5)
LABEL = torch.ones(4, 5, dtype=torch.uint8)
FACTORS = [torch.rand(4, 2), torch.rand(5, 3)]
OPTIONS = {"n": 2, "interpolation": "linear", "mode": "constant", "cval": 0.0}
FILTER = {"input": IMAGE, "sigma": [1.0], "mode": "wrap", "truncate": 4.0, "kernel": "sampled"}

GOOD: dict[str, dict[str, object]] = {
    "gaussian_filter": {
        **{name: FILTER[name] for name in ("input", "sigma", "mode")},
        "cval": 0.0,
        **{name: FILTER[name] for name in ("truncate", "kernel")},
    },
    "gaussian_filter_adjoint": FILTER,
    "axis_factor": {
        "size": 9,
        "length_scale": 2.0,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    },
    "gaussian_field": {"coefficients": torch.rand(2, 2, 3), "factors": FACTORS},
    "folded_share": {"coefficients": torch.rand(2, 2, 3), "factors": FACTORS},
    "sample": {
        "label": LABEL,
        "coefficients": torch.rand(1, 2, 2, 3),
        "factors": FACTORS,
        "interpolation": "nearest",
    },
    "warp": {"input": IMAGE, "displacement": FIELD, **OPTIONS},
    "warp_backward": {"gradient": IMAGE, "input": IMAGE, "displacement": FIELD, **OPTIONS},
    "warp_double_backward": {
        "input_weight": IMAGE,
        "displacement_weight": FIELD,
        "gradient": IMAGE,
        "input": IMAGE,
        "displacement": FIELD,
        **OPTIONS,
    },
    "assign_labels": {
        "values": IMAGE,
        "scale": torch.ones(4),
        "offset": torch.zeros(4),
        "fallback": 0,
        "floor": 0.0,
    },
    "dice_threshold": {"probabilities": IMAGE, "n": 2, "method": "iterate", "beta": 2.0},
    "segment_dice_threshold": {
        "values": torch.rand(6),
        "offsets": torch.tensor([0, 3, 6]),
        "method": "iterate",
        "beta": 2.0,
    },
    "dice_curve": {"probabilities": IMAGE, "n": 2, "beta": 2.0},
}

COMPLEX = torch.zeros(4, 5, dtype=torch.complex64)
INTEGERS = torch.zeros(4, 5, dtype=torch.int32)

BAD_FILTER = [
    ("input", COMPLEX, "input"),
    ("input", torch.zeros(4, 5, dtype=torch.uint16), "input"),
    ("input", torch.tensor(1.0), "sigma"),
    ("sigma", [], "sigma"),
    ("sigma", [1.0] * 3, "sigma"),
    ("sigma", [1.0] * 4, "sigma"),
    ("sigma", [-1.0], "sigma"),
    ("sigma", [math.nan], "sigma"),
    ("sigma", [math.inf], "sigma"),
    ("sigma", [1e30], "sigma"),
    ("mode", "mirrored", "mode"),
    ("truncate", 0.0, "truncate"),
    ("truncate", math.nan, "truncate"),
    ("truncate", math.inf, "truncate"),
    ("truncate", 1e18, "sigma"),
    ("kernel", "box", "kernel"),
]
BAD_EXPANSION = [
    ("coefficients", torch.rand(3), "coefficients"),
    ("coefficients", torch.tensor(1.0), "coefficients"),
    ("coefficients", torch.rand(2, 2, 4), "coefficients"),
    ("coefficients", torch.rand(2, 2, 3).double(), "(coefficients and )?factors"),
    ("coefficients", torch.rand(2, 2, 3).half(), "(coefficients and )?factors"),
    ("coefficients", torch.ones(2, 2, 3, dtype=torch.int64), "(coefficients and )?factors"),
    ("factors", [], "factors"),
    ("factors", [torch.rand(1, 1)] * 4, "factors"),
    ("factors", [torch.rand(4, 3, 2), torch.rand(5, 3)], "factors"),
    ("factors", [torch.rand(4, 3, 0), torch.rand(5, 3)], "factors"),
    ("factors", [torch.rand(4), torch.rand(5, 3)], "factors"),
    ("factors", [torch.rand(4, 2), torch.rand(5, 3).double()], "(coefficients and )?factors"),
]
EITHER = "coefficients|(coefficients and )?factors"
BAD_WARP = [
    ("input", COMPLEX, "input"),
    ("input", torch.rand(4, 6), "displacement"),
    ("input", torch.rand(5), "displacement"),
    ("displacement", torch.rand(3, 4, 5), "displacement"),
    ("displacement", torch.rand(2, 5, 4), "displacement"),
    ("displacement", torch.rand(5), "displacement"),
    ("displacement", torch.tensor(1.0), "displacement"),
    ("displacement", FIELD.long(), "displacement"),
    ("n", 0, "displacement"),
    ("n", -1, "displacement"),
    ("n", 4, "displacement"),
    ("interpolation", "cubic", "interpolation"),
    ("mode", "mirrored", "mode"),
    ("cval", 1j, "cval"),
]
BAD_GRADIENT = [
    ("gradient", torch.rand(4, 4), "gradient"),
    ("gradient", COMPLEX, "gradient"),
    ("gradient", INTEGERS, "gradient"),
    ("input", LABEL, "input"),
]
BAD_MAP = [
    ("probabilities", INTEGERS, "probabilities"),
    ("probabilities", COMPLEX, "probabilities"),
    ("n", 0, "spatial_dims"),
    ("n", -1, "spatial_dims"),
    ("n", 3, "spatial_dims"),
]
BAD_BETA = [("beta", 0.0, "beta"), ("beta", float("nan"), "beta"), ("beta", 1e10, "beta")]

#: For each op: one argument, a bad value of it, and how the sentence begins.
BAD: dict[str, list[tuple[str, object, str]]] = {
    "gaussian_filter": BAD_FILTER,
    "gaussian_filter_adjoint": BAD_FILTER,
    "axis_factor": [
        ("size", 0, "size"),
        ("size", -3, "size"),
        ("length_scale", 0.0, "length_scale"),
        ("length_scale", math.nan, "length_scale"),
        ("dtype", torch.int32, "dtype"),
    ],
    "gaussian_field": BAD_EXPANSION,
    "folded_share": [
        *BAD_EXPANSION,
        ("factors", [torch.rand(0, 2), torch.rand(5, 3)], "factors"),
        ("factors", [torch.rand(4, 0), torch.rand(5, 3)], "factors"),
    ],
    "sample": [
        *[
            (name, value, "coefficients|factors|coefficients and factors")
            for name, value, _ in BAD_EXPANSION
        ],
        ("coefficients", torch.rand(2, 2, 3), "coefficients"),
        ("factors", [torch.rand(4, 2), torch.rand(6, 3)], "coefficients"),
        ("label", IMAGE, "label"),
        ("label", torch.ones(4, 6, dtype=torch.uint8), "coefficients"),
        ("label", torch.tensor(1), "coefficients"),
        ("interpolation", "cubic", "interpolation"),
    ],
    "warp": [*BAD_WARP, ("input", LABEL, "cval")],
    "warp_backward": [*BAD_WARP, *BAD_GRADIENT],
    "warp_double_backward": [
        *BAD_WARP,
        *BAD_GRADIENT,
        ("input_weight", torch.rand(4), "input_weight"),
        ("input_weight", INTEGERS, "input_weight"),
        ("displacement_weight", torch.rand(2, 4), "displacement_weight"),
        ("displacement_weight", FIELD.long(), "displacement_weight"),
    ],
    "assign_labels": [
        ("values", INTEGERS, "values"),
        ("values", COMPLEX, "values"),
        ("values", torch.rand(4), "values"),
        ("values", torch.rand(0, 5), "values"),
        ("values", torch.rand(5, 5), "scale"),
        ("scale", torch.ones(3), "scale"),
        ("scale", torch.ones(1, 4), "scale"),
        ("scale", torch.ones(4, dtype=torch.float64), "scale"),
        ("offset", torch.ones(5), "offset"),
        ("offset", torch.ones(4, dtype=torch.int64), "offset"),
        ("fallback", -2, "fallback"),
        ("fallback", 4, "fallback"),
    ],
    "dice_threshold": [*BAD_MAP, ("method", "scan", "method"), *BAD_BETA],
    "segment_dice_threshold": [
        ("values", torch.ones(6, dtype=torch.int64), "values"),
        ("values", torch.rand(6, 1), "values"),
        ("offsets", torch.tensor([0, 3], dtype=torch.int32), "offsets"),
        ("offsets", torch.tensor([0.0, 3.0]), "offsets"),
        ("offsets", torch.tensor([], dtype=torch.int64), "offsets"),
        ("offsets", torch.tensor(3), "offsets"),
        ("offsets", torch.tensor([[0, 3]]), "offsets"),
        ("offsets", torch.tensor([0, 7]), "offsets"),
        ("offsets", torch.tensor([-1, 6]), "offsets"),
        ("offsets", torch.tensor([4, 3, 6]), "offsets"),
        ("method", "scan", "method"),
        *BAD_BETA,
    ],
    "dice_curve": [*BAD_MAP, *BAD_BETA],
}


def test_every_op_is_here():
    assert registered() == set(GOOD) == set(BAD)


@pytest.mark.parametrize("name", GOOD)
def test_bad_arguments_are_named(name):
    op = getattr(ops, name)
    op(*GOOD[name].values())
    for argument, value, start in BAD[name]:
        cval = {"cval": 0.5} if start == "cval" and argument == "input" else {}
        with pytest.raises((ValueError, TypeError)) as refused:
            op(*{**GOOD[name], argument: value, **cval}.values())
        sentence = str(refused.value)
        assert re.match(rf"({start}): expected .* got ", sentence), (argument, value, sentence)
        assert "\n" not in sentence


@pytest.mark.parametrize("name", [name for name in GOOD if name != "axis_factor"])
def test_tensors_of_two_devices_are_refused(name):
    good = GOOD[name]
    several = [key for key, value in good.items() if isinstance(value, torch.Tensor | list)]
    for key in several[1:]:
        value = good[key]
        if isinstance(value, list):
            if not isinstance(value[0], torch.Tensor):
                continue
            elsewhere: object = [value[0], value[1].to("meta")]
        else:
            elsewhere = value.to("meta")
        # The message names the tensor itself, or the first beside it, by the input's device.
        with pytest.raises(ValueError, match=r"^\w+: expected the first argument's device"):
            getattr(ops, name)(*{**good, key: elsewhere}.values())


@pytest.mark.parametrize("name", [name for name in GOOD if name != "axis_factor"])
def test_nor_are_they_taken_where_shapes_alone_are_computed(name):
    """On the device ``meta``, and among the fake tensors of a compiler."""

    def moved(value: object) -> object:
        if isinstance(value, list):
            return [moved(entry) for entry in value]
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    op = getattr(ops, name)
    good = {key: moved(value) for key, value in GOOD[name].items()}
    expected, found = op(*GOOD[name].values()), op(*good.values())
    if isinstance(expected, torch.Tensor):
        expected, found = (expected,), (found,)
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert one.dtype is other.dtype
    for argument, value, start in BAD[name]:
        if "offsets" in (argument, start) and value.dtype is torch.int64 and value.numel():
            continue  # their values are nowhere
        cval = {"cval": 0.5} if start == "cval" and argument == "input" else {}
        with pytest.raises((ValueError, TypeError), match=f"^({start}): expected"):
            op(*{**good, argument: moved(value), **cval}.values())


def test_factors_without_columns_expand_to_nothing():
    field = ops.gaussian_field(torch.rand(3, 0), [torch.rand(4, 0)])
    assert torch.equal(field, torch.zeros(3, 4))
