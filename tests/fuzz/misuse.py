"""Calls with arguments that do not fit: they are refused by one line, or work."""

from __future__ import annotations

import math

import torch
from tests.fuzz import draws
from tests.fuzz.draws import Random, one_of

import marginseg

WRONG = (
    *(-1, 0, 4, 2**70, -0.5, math.nan, math.inf, 1e300, 1j, True, None, torch.float32),
    *("", "cubic", b"x", (), (1.0,) * 4, [math.nan], [[1.0]], {}, object()),
)


def _tensor(random: Random) -> torch.Tensor:
    dtype = one_of(random, (*draws.FLOATING, *draws.LABELS, torch.complex64, torch.int8))
    of = draws.shape(random, 0, 5)
    values = 3.0 * draws.floats(random, of, torch.float64)
    return one_of(random, (values.nan_to_num().to(dtype), values.to(dtype)))


def misused(random: Random) -> bool:
    """Call a function with any tensors, and one option out of its range."""
    t = [_tensor(random) for _ in range(2)]
    w = one_of(random, WRONG)
    noise = marginseg.GaussianFieldNoise
    calls = {
        "gaussian_filter sigma": lambda: marginseg.gaussian_filter(t[0], w),
        "gaussian_filter cval": lambda: marginseg.gaussian_filter(t[0], 1.0, cval=w),
        "gaussian_filter truncate": lambda: marginseg.gaussian_filter(t[0], 1.0, truncate=w),
        "gaussian_filter mode": lambda: marginseg.gaussian_filter(t[0], 1.0, mode=w),
        "warp": lambda: marginseg.warp(t[0], t[1]),
        "warp cval": lambda: marginseg.warp(torch.zeros(4), torch.zeros(1, 4), cval=w),
        "warp label cval": lambda: marginseg.warp(
            torch.zeros(4, dtype=torch.int16), torch.zeros(1, 4), cval=w
        ),
        "warp mode": lambda: marginseg.warp(torch.zeros(4), torch.zeros(1, 4), mode=w),
        "warp spatial_dims": lambda: marginseg.warp(
            torch.zeros(4), torch.zeros(1, 4), spatial_dims=w
        ),
        "dice_threshold": lambda: marginseg.dice_threshold(t[0], spatial_dims=w),
        "dice_threshold values": lambda: marginseg.dice_threshold(t[0], spatial_dims=1),
        "segment_dice_threshold": lambda: marginseg.segment_dice_threshold(t[0], t[1]),
        "segment offsets": lambda: marginseg.segment_dice_threshold(
            torch.rand(9), torch.from_numpy(random.integers(-3, 20, 4))
        ),
        "streamed_dice_threshold": lambda: marginseg.streamed_dice_threshold([t[0], t[1]]),
        "streamed leading_dims": lambda: marginseg.streamed_dice_threshold(
            [torch.rand(2, 3)], leading_dims=w
        ),
        "dice_curve": lambda: marginseg.dice_curve(t[0], spatial_dims=w),
        "optimal_threshold": lambda: marginseg.optimal_threshold(t[0]),
        "optimal_segmentation": lambda: marginseg.optimal_segmentation(t[0], spatial_dims=w),
        "optimal_labels": lambda: marginseg.optimal_labels(t[0], spatial_dims=w),
        "labels background": lambda: marginseg.optimal_labels(torch.rand(3, 4), background=w),
        "cut": lambda: marginseg.cut(t[0], w),
        "gaussian_field shape": lambda: marginseg.gaussian_field(w, 1.0, 3.0),
        "gaussian_field std": lambda: marginseg.gaussian_field((4, 5), w, 3.0),
        "gaussian_field scale": lambda: marginseg.gaussian_field((4, 5), 1.0, w),
        "gaussian_field coefficients": lambda: marginseg.gaussian_field(
            (4, 5), 1.0, 3.0, coefficients=t[0]
        ),
        "gaussian_field_ranks": lambda: marginseg.gaussian_field_ranks((4, 5), w),
        "folded_share": lambda: marginseg.folded_share(t[0]),
        "noise std": lambda: noise(w),
        "noise scale": lambda: noise(1.0, w),
        "noise sample": lambda: noise(0.1).sample(t[0]),
        "noise sample n": lambda: noise(0.1).sample(torch.zeros(4, 5, dtype=torch.bool), w),
        "noise marginals": lambda: noise(0.1).marginals(t[0]),
        "noise expected_volume": lambda: noise(0.1).expected_volume(t[0]),
        "cross_entropy": lambda: marginseg.cross_entropy(t[0], t[1]),
        "soft_dice": lambda: marginseg.soft_dice(t[0], t[0], spatial_dims=w),
        "dice": lambda: marginseg.dice(t[0], t[1]),
        "accuracy": lambda: marginseg.accuracy(t[0], t[0], spatial_dims=w),
        "calibration_curve": lambda: marginseg.calibration_curve(t[0], t[0], bins=w),
        "expected_calibration_error": lambda: marginseg.expected_calibration_error(t[0], t[1]),
    }
    name = one_of(random, tuple(calls))
    misused.last = f"{name}: {_told(w)}; {', '.join(map(_told, t))}"
    calls[name]()
    return False


def _told(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return repr(value)[:60]
