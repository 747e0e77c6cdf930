"""NumPy arrays in and out: the same numbers as of tensors, whatever lies in memory how."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import marginseg
from marginseg.arrays import as_tensor, like

NOISE = marginseg.GaussianFieldNoise(0.1)
SOFT = np.random.default_rng(0).uniform(size=(6, 7, 8)).astype(np.float32)
LABEL = (SOFT > 0.6).astype(np.int16)

CALLS = {
    "optimal_threshold": lambda m, s: marginseg.optimal_threshold(m, spatial_dims=2),
    "optimal_segmentation": lambda m, s: marginseg.optimal_segmentation(m),
    "cut": lambda m, s: marginseg.cut(m, 0.4),
    "cuts": lambda m, s: marginseg.cut(m, marginseg.optimal_threshold(m, spatial_dims=2)),
    "optimal_labels": lambda m, s: marginseg.optimal_labels(m),
    "dice": lambda m, s: marginseg.dice(s, m),
    "accuracy": lambda m, s: marginseg.accuracy(s, m, spatial_dims=1),
    "volume_ratio": lambda m, s: marginseg.volume_ratio(s, m),
    "volume_bias": lambda m, s: marginseg.volume_bias(s, m),
    "calibration_curve": marginseg.calibration_curve,
    "expected_calibration_error": marginseg.expected_calibration_error,
    "sample": lambda m, s: NOISE.sample(s, 2, generator=3),
    "sample_folded": lambda m, s: NOISE.sample_folded(s, 2, generator=3),
    "marginals": lambda m, s: NOISE.marginals(s),
    "of classes": lambda m, s: NOISE.marginals(s, classes=[0, 1]),
    "expected_volume": lambda m, s: NOISE.expected_volume(s),
    "volume_loss": lambda m, s: NOISE.volume_loss(s),
}


def _locked(array):
    locked = array.copy()
    locked.flags.writeable = False
    return locked


def _unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


LAYOUTS = {
    "plain": lambda array: array,
    "Fortran": np.asfortranarray,
    "backwards": lambda array: array[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "locked": _locked,
    "unaligned": _unaligned,
}


def _fields(found):
    if isinstance(found, np.ndarray | torch.Tensor):
        return [found]
    return list(found if isinstance(found, tuple) else vars(found).values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_arrays_give_arrays_of_the_same_numbers(name, layout):
    arrays = [LAYOUTS[layout](array) for array in (SOFT, LABEL)]
    copies = [array.copy() for array in arrays]
    with warnings.catch_warnings(action="error"):
        found = _fields(CALLS[name](*arrays))
    expected = _fields(CALLS[name](torch.from_numpy(SOFT), torch.from_numpy(LABEL)))
    for array, tensor in zip(found, expected, strict=True):
        assert isinstance(array, np.ndarray)
        assert isinstance(tensor, torch.Tensor)
        assert array.dtype == tensor.numpy().dtype
        np.testing.assert_allclose(
            array.astype(float), tensor.numpy().astype(float), rtol=0, atol=1e-6
        )
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_memory_is_shared_and_kept():
    array = np.arange(5.0)
    tensor = as_tensor("m", _locked(array))
    assert tensor.tolist() == array.tolist()  # its array is nobody else's
    shared = as_tensor("m", array)
    array[0] = 7.0
    assert float(shared[0]) == 7.0


def test_what_torch_has_no_dtype_for_is_named():
    for array in (np.array(["a"]), np.array([None]), np.zeros(2, np.longdouble)):
        with pytest.raises(TypeError, match="^m: expected a dtype that torch has, got "):
            as_tensor("m", array)
    with pytest.raises(TypeError, match="^m: expected a torch.Tensor or a NumPy array, got float"):
        as_tensor("m", 0.5)


def test_a_tensors_class_comes_back():
    class Marked(torch.Tensor):
        pass

    m = torch.from_numpy(SOFT).as_subclass(Marked)
    label = torch.from_numpy(LABEL).as_subclass(Marked)
    assert type(marginseg.optimal_segmentation(m)) is Marked
    assert type(marginseg.cut(m, 0.5)) is Marked
    assert type(marginseg.dice(label, m)) is Marked
    assert like(m, m) is m


@pytest.mark.parametrize(
    "call",
    [
        marginseg.optimal_segmentation,
        lambda m: marginseg.dice(m, m),
        lambda m: marginseg.cut(m, 0.5),
    ],
)
def test_one_graph(call):
    m = torch.from_numpy(SOFT)
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(m), call(m))
