"""Folds: a partition, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginseg.data import folds


@given(st.data(), st.integers(2, 60), st.integers(0, 2**32))
def test_every_case_is_tested_once_and_never_trained_on(
    data: st.DataObject, cases: int, seed: int
) -> None:
    k = data.draw(st.integers(2, cases))
    parts = folds(cases, k, seed)
    assert len(parts) == k
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(cases))
    for train, test in parts:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(cases))
        assert len(test) in (cases // k, -(-cases // k))
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()


def test_folds_depend_on_the_seed_alone() -> None:
    first, again, other = folds(40, 4, 7), folds(40, 4, 7), folds(40, 4, 8)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("cases", "k", "seed", "message"),
    [
        (5, 1, 0, "k: expected at least 2 folds, got 1"),
        (5, 6, 0, "k: expected at most the 5 cases, got 6"),
        (5, 2, -1, "seed: expected at least 0, got -1"),
    ],
)
def test_impossible_folds_are_refused(cases: int, k: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        folds(cases, k, seed)
