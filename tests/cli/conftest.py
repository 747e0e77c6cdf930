from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from volume_files import save


@pytest.fixture
def label(tmp_path: Path) -> Path:
    data = np.zeros((20, 24, 16), np.uint8)
    data[5:15, 6:18, 4:12] = 1
    return save(tmp_path / "a label.nii.gz", data)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    data = np.zeros((20, 24, 16), np.int16)
    data[5:15, 6:18, 4:12] = 3
    data[2:8, 2:8, 2:8] = 300
    return save(tmp_path / "labels.nii.gz", data)
