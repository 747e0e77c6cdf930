from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = Path(
    os.environ.get("MARGINSEG_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def _real_data(name: str) -> Path:
    directory = REAL_DATA / name
    if not directory.is_dir():
        pytest.skip(f"real data {name} is not here; set MARGINSEG_TEST_DATA to its folder's parent")
    return directory


@pytest.fixture(scope="session")
def hippocampus_dir() -> Path:
    return _real_data("Task04_Hippocampus")


@pytest.fixture(scope="session")
def totalsegmentator_dir() -> Path:
    return _real_data("totalsegmentator_sample")
