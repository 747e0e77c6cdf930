"""The files that the benchmark of the commands runs on."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
import torch

from bench.case import Size, organ
from marginseg import GaussianFieldNoise

#: A map larger than memory ought to be: 8.6 GB of float32, most of it a hole in the file.
LARGE_EDGE = 1290

AFFINE = np.diag([0.8, 0.8, 0.8, 1.0])


def label_map(folder: Path, edge: int) -> Path:
    """Write a label map of two structures."""
    values = organ(Size(edge)).numpy().astype(np.uint8)
    values[: edge // 4, : edge // 4, : edge // 4] = 2
    path = folder / "label.nii.gz"
    _save(values, AFFINE, path)
    return path


def probability_maps(label: Path) -> tuple[Path, Path]:
    """Write a map as a network has it of the label's first structure, without and with gzip."""
    values = np.asanyarray(cast(Any, nibabel.load(label)).dataobj)
    mask = torch.from_numpy((values == 1).astype(np.uint8))
    marginals = GaussianFieldNoise(std=0.03).marginals(mask).numpy()
    noise = np.random.default_rng(0).random(marginals.shape, np.float32)
    noise -= 0.5
    noise *= marginals * (1 - marginals)
    marginals += noise
    plain, packed = label.with_name("map.nii"), label.with_name("map.nii.gz")
    for path in (plain, packed):
        _save(marginals.clip(0, 1), AFFINE, path)
    return plain, packed


def _save(values: Any, affine: Any, path: Path) -> None:
    nibabel.save(cast(Any, nibabel.Nifti1Image)(values, affine), path)


def large_map(folder: Path) -> Path:
    """Write a file of 8.6 GB that takes little of the disk: what is not written reads as 0."""
    path = folder / "large.nii"
    header: Any = cast(Any, nibabel.Nifti1Header)()
    header.set_data_shape((LARGE_EDGE,) * 3)
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    size = 4 * LARGE_EDGE**3
    block = np.random.default_rng(0).random(1 << 22, np.float32)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for share in (0.3, 0.5, 0.7):
            file.seek(352 + int(share * LARGE_EDGE**3) * 4)
            file.write(block.tobytes())
        file.truncate(352 + size)
    return path


def require_room(folder: Path, edge: int) -> None:
    """Refuse a disk that cannot hold two maps, and the marginals by us and by the peer.

    Raises:
        OSError: It has less room.

    """
    # Compressed maps count whole; the rest is for labels, masks and the blocks of the largest map.
    needed = 6 * 4 * edge**3 + (1 << 28)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder.parent}: expected {needed / 1e9:.1f} GB free, got {free / 1e9:.1f}; "
            "TMPDIR names another folder"
        )


def has_sparse_files(folder: Path) -> bool:
    """Return whether what is not written of a file takes no room in this folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(1 << 24)
        return os.fstat(file.fileno()).st_blocks * 512 < 1 << 20
