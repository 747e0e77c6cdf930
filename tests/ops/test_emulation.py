"""What a GPU does not forgive is an error in the emulation; and pieces of the kernels alone."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    if importlib.util.find_spec("marginseg._cuda_emulated") is None:
        pytest.skip("built without MARGINSEG_EMULATION")
    return ctypes.CDLL(importlib.import_module("marginseg._cuda_emulated").__file__)


@pytest.fixture(scope="module")
def faults(library) -> ctypes.CDLL:
    for name in ("load", "store", "barrier", "shuffle"):
        getattr(library, f"fault_of_a_{name}").restype = ctypes.c_char_p
    return library


@pytest.mark.parametrize("name", ["load", "store"])
def test_a_vector_must_be_aligned(faults, name):
    fault = getattr(faults, f"fault_of_a_{name}")
    assert fault(0) == b"nothing"
    assert fault(4) == b"nothing"
    for offset in (1, 2, 3):
        assert fault(offset) == b"a vector of 16 bytes that is not aligned"


def test_all_threads_of_a_block_must_reach_a_barrier(faults):
    assert b"a barrier that not all threads of the block reach" in faults.fault_of_a_barrier()


def test_all_lanes_of_a_warp_must_reach_a_shuffle(faults):
    assert b"a shuffle that not all lanes of the warp reach" in faults.fault_of_a_shuffle()


EDGES = [1, 2, 3, 2**16 - 1, 2**16, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 2, 2**31 - 1]


@given(
    st.one_of(st.sampled_from(EDGES), st.integers(1, 2**31 - 1)),
    st.lists(st.integers(0, 2**31 - 1), max_size=20),
)
def test_division_by_a_number_of_the_launch(library, divisor, drawn):
    """A multiplication in its place is right up to the largest integers of 32 bits."""
    whole = (2**31 - 1) // divisor * divisor
    dividends = np.array([0, *EDGES, whole - 1, whole, *drawn], np.int32)
    results = np.empty((len(dividends), 2), np.int32)
    addresses = (ctypes.c_void_p(array.ctypes.data) for array in (dividends, results))
    library.divide(ctypes.c_int64(divisor), ctypes.c_int64(len(dividends)), *addresses)
    assert results.tolist() == [list(divmod(int(value), divisor)) for value in dividends]
