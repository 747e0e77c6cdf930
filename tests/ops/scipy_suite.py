"""A plugin of pytest that puts marginseg in the place of SciPy, for SciPy's own tests.

`gaussian_filter`, `gaussian_filter1d` and `map_coordinates` of `scipy.ndimage` call marginseg
wherever it claims to do the same, and SciPy elsewhere. At the end, how often each happened, and
why, is written to the file that SCIPY_SUITE_COUNTS names.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from scipy._lib._array_api import xp_capabilities_table

from marginseg import gaussian_filter, warp

MODES = {
    "reflect": "reflect",
    "grid-mirror": "reflect",
    "constant": "constant",
    "grid-constant": "constant",
    "nearest": "nearest",
    "mirror": "mirror",
    "wrap": "wrap",
    "grid-wrap": "wrap",
}
FLOATING = (np.float32, np.float64)
SCIPY = {
    name: getattr(scipy.ndimage, name)
    for name in ("gaussian_filter", "gaussian_filter1d", "map_coordinates")
}
counts: Counter[str] = Counter()


class _NotOursError(Exception):
    """Something that marginseg does not claim to do."""


def _given(result: np.ndarray, output: object) -> np.ndarray:
    """Return the result as SciPy does for its argument `output`."""
    if isinstance(output, np.ndarray):
        if output.shape != result.shape:
            raise _NotOursError("an output of another shape")
        output[...] = result
        return output
    return result if output is None else result.astype(output)


def _filtered(input, sigma, order, output, mode, cval, truncate, radius, axes):
    values = np.asarray(input)
    if values.dtype.type not in FLOATING:
        raise _NotOursError("integers, which SciPy rounds to between the axes, or complex numbers")
    if not isinstance(mode, str) or mode not in MODES:
        raise _NotOursError("a mode for each axis")
    if axes is None:
        axes = tuple(range(values.ndim))
    axes = (axes,) if np.isscalar(axes) else tuple(axes)
    if not all(isinstance(axis, int) for axis in axes):
        raise _NotOursError("axes that are no integers")
    if any(np.ndim(option) and np.size(option) != len(axes) for option in (sigma, order)):
        raise _NotOursError("options for fewer or more axes")
    sigmas = np.broadcast_to(np.asarray(sigma, float), (len(axes),)).tolist()
    chosen = {axis % values.ndim for axis in axes if -values.ndim <= axis < values.ndim}
    if not 1 <= len(axes) <= 3 or len(chosen) != len(axes):
        raise _NotOursError("no axes, more than three, or none of the array")
    if np.any(np.asarray(order) != 0):
        raise _NotOursError("derivatives")
    if radius is not None:
        if (
            np.isscalar(radius) is False
            or len(set(sigmas)) > 1
            or radius != int(radius)
            or radius < 0
        ):
            raise _NotOursError("a radius for each axis, or none")
        if sigmas[0] == 0 or radius == 0:
            raise _NotOursError("a radius of nothing")
        truncate = radius / sigmas[0]
    last = tuple(range(-len(axes), 0))
    tensor = torch.from_numpy(np.moveaxis(values, axes, last).copy())
    if isinstance(output, type | np.dtype) and np.dtype(output) == np.float64:
        tensor = tensor.double()
    result = gaussian_filter(tensor, sigmas, mode=MODES[mode], cval=cval, truncate=truncate)
    return _given(np.moveaxis(result.numpy(), last, axes), output)


def _moved(input, coordinates, output, order, mode, cval):
    values, places = np.asarray(input), np.asarray(coordinates)
    if order not in (0, 1):
        raise _NotOursError("splines")
    if mode in ("constant", "wrap") or mode not in MODES:
        raise _NotOursError("modes that are not as those of filters")
    if values.dtype.type not in FLOATING or not 1 <= values.ndim <= 3:
        raise _NotOursError("integers or complex numbers, or more than three axes")
    if places.shape[1:] != values.shape:
        raise _NotOursError("coordinates of another shape than the image's")
    grid = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"))
    result = warp(
        torch.from_numpy(values.copy()).double(),
        torch.from_numpy(places.astype(np.float64) - grid),
        interpolation=("nearest", "linear")[order],
        mode=MODES[mode],
        cval=cval,
        spatial_dims=values.ndim,
    )
    return _given(result.numpy().astype(values.dtype), output)


def _counted(name, ours, arguments, scipys):
    try:
        result = ours(*arguments)
    except _NotOursError as reason:
        counts[f"{name}, by SciPy: {reason}"] += 1
        return scipys()
    counts[name] += 1
    return result


def _gaussian_filter(
    input,
    sigma,
    order=0,
    output=None,
    mode="reflect",
    cval=0.0,
    truncate=4.0,
    *,
    radius=None,
    axes=None,
):
    arguments = (input, sigma, order, output, mode, cval, truncate, radius, axes)

    def scipys():
        return SCIPY["gaussian_filter"](*arguments[:7], radius=radius, axes=axes)

    return _counted("gaussian_filter", _filtered, arguments, scipys)


def _gaussian_filter1d(
    input,
    sigma,
    axis=-1,
    order=0,
    output=None,
    mode="reflect",
    cval=0.0,
    truncate=4.0,
    *,
    radius=None,
):
    def scipys():
        options = (axis, order, output, mode, cval, truncate)
        return SCIPY["gaussian_filter1d"](input, sigma, *options, radius=radius)

    arguments = (input, sigma, order, output, mode, cval, truncate, radius, axis)
    return _counted("gaussian_filter1d", _filtered, arguments, scipys)


def _map_coordinates(
    input, coordinates, output=None, order=3, mode="constant", cval=0.0, prefilter=True
):
    def scipys():
        return SCIPY["map_coordinates"](input, coordinates, output, order, mode, cval, prefilter)

    return _counted(
        "map_coordinates", _moved, (input, coordinates, output, order, mode, cval), scipys
    )


# At import, since tests that are parametrized over functions take them when they are collected.
# SciPy looks up by the function which array libraries it takes.
for name, function in {
    "gaussian_filter": _gaussian_filter,
    "gaussian_filter1d": _gaussian_filter1d,
    "map_coordinates": _map_coordinates,
}.items():
    setattr(scipy.ndimage, name, function)
    xp_capabilities_table[function] = xp_capabilities_table[SCIPY[name]]

_failed: list[str] = []
_passed: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Tell which tests call marginseg at all."""
    before = sum(counts[name] for name in SCIPY)
    try:
        return (yield)
    finally:
        if sum(counts[name] for name in SCIPY) > before:
            counts["tests"] += 1


def pytest_runtest_logreport(report):
    if report.when == "call":
        name = report.nodeid.split("::", 1)[1]
        (_failed if report.failed else _passed).append(name)


def pytest_sessionfinish():
    result = {"counts": dict(counts), "failed": _failed, "passed": len(_passed)}
    Path(os.environ["SCIPY_SUITE_COUNTS"]).write_text(json.dumps(result, indent=1))
