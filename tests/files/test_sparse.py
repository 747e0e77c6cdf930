from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marginseg.files.sparse import BLOCK, SparseWriter


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 3 * BLOCK + 5), st.lists(st.integers(0, 3 * BLOCK), max_size=4)),
        max_size=5,
    )
)
def test_the_file_reads_as_what_was_written(tmp_path: Path, pieces) -> None:
    path = tmp_path / "file"
    written = b"head"
    with path.open("wb") as file:
        file.write(b"head")
        stream = SparseWriter(file)
        for size, places in pieces:
            piece = np.zeros(size, np.uint8)
            piece[[place for place in places if place < size]] = 7
            stream.write(piece)
            written += piece.tobytes()
        stream.finish()
    assert path.read_bytes() == written


def test_values_of_any_kind_and_a_hole_for_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    values = np.zeros((40, BLOCK // 4), np.float32)
    values[7, 5] = -0.0  # no zero in bytes
    values[8] = np.nan
    with path.open("wb") as file:
        stream = SparseWriter(file)
        stream.write(values)
        stream.write(b"\x00" * 3)
        stream.finish()
    assert path.read_bytes() == values.tobytes() + bytes(3)
    stored = path.stat().st_blocks * 512
    if stored >= path.stat().st_size:
        pytest.skip("this file system keeps no holes")
    assert stored <= 4 * BLOCK
