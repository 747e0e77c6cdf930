"""What a GPU does not forgive is an error in the emulation, though a CPU would let it pass."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util

import pytest


@pytest.fixture(scope="module")
def faults() -> ctypes.CDLL:
    if importlib.util.find_spec("marginseg._cuda_emulated") is None:
        pytest.skip("built without MARGINSEG_EMULATION")
    path = importlib.import_module("marginseg._cuda_emulated").__file__
    library = ctypes.CDLL(path)
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
