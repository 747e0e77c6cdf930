"""Numbers of NumPy and torch are numbers; strings are not, and the message names the argument."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import marginseg
from marginseg import GaussianFieldNoise, gaussian_field, gaussian_filter, warp
from marginseg.numbers import integer, integers, number, numbers

MAP = torch.linspace(0.0, 1.0, 30, dtype=torch.float64).reshape(5, 6)
LABEL = (MAP > 0.5).byte()
SHIFT = torch.full((2, 5, 6), 0.75)


def model(**options):
    return GaussianFieldNoise(**{"std": 1.0, "length_scale": 3.0, "units": "voxel", **options})


def seeded():
    return torch.Generator().manual_seed(0)


#: Each argument that is a number: a call with it, and a number that it takes.
CALLS = {
    "sigma": (lambda v: gaussian_filter(MAP, v), 1),
    "cval": (lambda v: gaussian_filter(MAP, 1.0, cval=v), 2),
    "truncate": (lambda v: gaussian_filter(MAP, 1.0, truncate=v), 2),
    "cval ": (lambda v: warp(MAP, SHIFT, cval=v), 3),
    "cval  ": (lambda v: warp(LABEL, SHIFT, cval=v), 3),
    "std": (lambda v: gaussian_field((4, 5), v, 2.0, generator=seeded()), 2),
    "length_scale": (lambda v: gaussian_field((4, 5), 1.0, v, generator=seeded()), 3),
    "std ": (lambda v: model(std=v).marginals(LABEL), 1),
    "length_scale ": (lambda v: model(length_scale=v).displacement((4, 5), generator=seeded()), 2),
    "threshold": (lambda v: marginseg.cut(MAP, v), 1),
    "beta": (lambda v: marginseg.dice_threshold(MAP, spatial_dims=2, beta=v).dice, 2),
}
INTEGERS = {
    "spatial_dims": (lambda v: marginseg.dice_threshold(MAP, spatial_dims=v).dice, 2),
    "spatial_dims ": (lambda v: marginseg.optimal_segmentation(MAP, spatial_dims=v), 1),
    "spatial_dims  ": (lambda v: marginseg.dice_curve(MAP, spatial_dims=v).dice, 1),
    "spatial_dims   ": (lambda v: warp(MAP, SHIFT, spatial_dims=v), 2),
    "spatial_dims    ": (lambda v: model(spatial_dims=v).marginals(LABEL), 2),
    "spatial_dims     ": (lambda v: marginseg.dice(LABEL, MAP, spatial_dims=v), 1),
    "spatial_dims      ": (lambda v: marginseg.soft_dice(MAP, LABEL, spatial_dims=v), 1),
    "n": (lambda v: model().sample(LABEL, v, generator=seeded()), 2),
    "n ": (lambda v: model().displacement((4, 5), v, generator=seeded()), 2),
    "batch_dims": (
        lambda v: model(spatial_dims=1).sample(LABEL, batch_dims=v, generator=seeded()),
        1,
    ),
    "bins": (lambda v: marginseg.expected_calibration_error(MAP, LABEL, bins=v), 3),
    "shape": (lambda v: gaussian_field((4, v), 1.0, 2.0, generator=seeded()), 5),
}


@pytest.mark.parametrize("name", CALLS)
def test_numbers_of_every_kind(name):
    call, value = CALLS[name]
    expected = call(value)
    kinds = [np.float32, np.float64, np.int64, np.uint8, np.array, torch.tensor, float, Fraction]
    for kind in kinds:
        assert torch.equal(call(kind(value)), expected), kind


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_every_kind(name):
    call, value = INTEGERS[name]
    expected = call(value)
    for kind in (np.int64, np.uint8, torch.tensor):
        assert torch.equal(call(kind(value)), expected), kind
    for bad in (1.0, np.float32(1.0), "1", torch.tensor(1.0), None if name == "n" else [1]):
        if bad is not None:
            with pytest.raises(TypeError, match=f"^{name.strip()}: expected .*got"):
                call(bad)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_named(name):
    call, _ = CALLS[name]
    for bad in ("0.1", b"1", None, 1j, ["0.1"], torch.tensor(1.0, requires_grad=True)):
        if bad is None and name == "length_scale ":
            continue
        with pytest.raises(TypeError, match=f"^{name.strip()}: expected .*got"):
            call(bad)


def test_sequences_of_numbers():
    expected = gaussian_filter(MAP, (1.0, 2.0))
    for sigma in (np.array([1, 2]), torch.tensor([1.0, 2.0]), [np.float32(1), torch.tensor(2)]):
        assert torch.equal(gaussian_filter(MAP, sigma), expected)
    assert model(spacing=np.array([1, 2]), spatial_dims=2).spacing == (1.0, 2.0)
    with pytest.raises(TypeError, match="^spacing: expected"):
        model(spacing="12")


def test_what_they_are_in_python():
    assert type(number("x", np.float64(2))) is float
    assert numbers("x", [1, np.float32(0.5)]) == (1.0, 0.5)
    assert type(integer("x", np.int8(3))) is int
    assert type(integer("x", True)) is int
    one = model().sample(LABEL, 1, generator=seeded())
    assert torch.equal(model().sample(LABEL, True, generator=seeded()), one)
    assert integers("x", np.array([3, 4])) == (3, 4)
    with pytest.raises(ValueError, match="^x: expected a number that float64 holds"):
        number("x", 10**400)
