from __future__ import annotations

import numpy as np
import pytest
import torch

from marginseg.flat_map import FlatMap


def _map(shape: tuple[int, ...], order: str) -> np.ndarray:
    values = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    if order == "npz":  # nnU-Net's (K, z, y, x), seen as (K, x, y, z)
        return np.ascontiguousarray(values.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    if order == "strided":
        return np.repeat(values, 2, axis=1)[:, ::2]
    return np.asarray(values, order=order)


@pytest.mark.parametrize("order", ["C", "F", "npz", "strided"])
def test_what_stands_beside_a_map_is_taken_apart_like_it(order) -> None:
    values = _map((2, 3, 4, 5), order)
    flat = FlatMap.of(values, 2)
    for layout in ("C", "F"):
        beside = np.asarray(values[:1] > 0.5, order=layout)
        masks = flat.beside(beside)
        np.testing.assert_array_equal(masks[0], flat.values[0] > 0.5)
        np.testing.assert_array_equal(flat.restored(masks), beside)
    assert flat.ordered((1.0, 2.0, 3.0)) in ((1.0, 2.0, 3.0), (3.0, 2.0, 1.0))
    assert dict(zip(flat.ordered((3, 4, 5)), flat.spatial, strict=True)) == {3: 3, 4: 4, 5: 5}


def test_an_array_of_nnunet_is_not_copied() -> None:
    values = _map((2, 3, 4, 5), "npz")
    assert np.shares_memory(FlatMap.of(values, 2).values.numpy(), values)


def test_a_tensor_stays_one() -> None:
    values = torch.rand(2, 3, 4)
    flat = FlatMap.of(values, 1)
    assert isinstance(flat.restored(flat.values > 0.5), torch.Tensor)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.ones((1, 3)), ValueError, "at least 2 channels"),
        (np.ones(3), ValueError, "at least 2 channels"),
        (np.ones((2, 3), int), TypeError, "floating"),
        ([[0.5]], TypeError, "floating"),
        (torch.ones(2, 3, dtype=torch.int64), TypeError, "floating"),
        (np.array([[0.5], [np.nan]]), ValueError, "within"),
        (np.array([[0.5], [1.5]]), ValueError, "within"),
    ],
)
def test_what_is_no_map_is_refused(values, error, words) -> None:
    with pytest.raises(error, match=f"^probabilities: .*{words}"):
        FlatMap.of(values, 2)
