"""CT-like phantoms, made on the fly: no download, known truth, as many cases as one likes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import ndimage

from marginseg.data.anatomy import FAT, SCENES
from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import Case, CaseProgress, Dataset
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import as_patch_shape
from marginseg.data.shapes import Canvas

#: ``kidney`` (with a hilum), ``tube`` (thick), ``thin_tube`` (winding).
PHANTOM_STRUCTURES = tuple(SCENES)

#: The least voxels along an axis in which a structure can be made out.
LEAST_SIZE = 8

#: Millimetres along an edge of a cubic phantom.
EXTENT = 128.0

#: Point spread of the scanner, standard deviation in voxels.
BLUR = 0.55

#: Noise: standard deviation in Hounsfield units, and of its correlation in voxels.
NOISE, GRAIN = 16.0, 0.6

#: Slow drift of the intensity, as from beam hardening: amplitude in Hounsfield units.
SHADING = 12.0


def phantom(
    structure: str,
    *,
    cases: int,
    patch_shape: Sequence[int],
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: CaseProgress | None = None,
) -> Dataset:
    """Make CT-like volumes of a structure among its neighbours; anatomy varies from case to case.

    The structure's share of the volume is 5–8 % (``kidney``), 3–5 % (``tube``) or 1–1.5 %
    (``thin_tube``, 3 to 4 voxels wide at 32³), whatever the resolution. The label holds the voxels
    whose centre is inside; the image has partial volume, blur, shading and correlated noise, and
    is windowed as a CT. Case i is the same whatever the number of cases: it depends on seed,
    structure, patch shape and i. A patch of two axes is the middle plane of such a volume, across
    the third axis, and the structure has its share of the plane.

    Args:
        structure: One of ``PHANTOM_STRUCTURES``.
        cases: How many, >= 1.
        patch_shape: Voxels along two or three axes, each >= 8.
        seed: Of anatomy and noise, >= 0.
        cache_dir: Where prepared cases are kept; None is :func:`default_cache_dir`.
        progress: Called with each case in turn: how many were looked at, are usable, are wanted.

    Raises:
        ValueError: An argument is out of its range, or the cache cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = phantom("tube", cases=4, patch_shape=(16, 16, 16), cache_dir=folder)
        ...     len(data), data[0].image.dtype, data[0].label.shape
        (4, dtype('float32'), (16, 16, 16))

    """
    if structure not in SCENES:
        known = ", ".join(PHANTOM_STRUCTURES)
        raise ValueError(f"structure: expected one of {known}, got {structure!r}")
    if cases < 1:
        raise ValueError(f"cases: expected at least 1, got {cases}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    shape = as_patch_shape(patch_shape)
    if min(shape) < LEAST_SIZE:
        raise ValueError(
            f"patch_shape: expected at least {LEAST_SIZE} voxels along each axis, got {shape}"
        )
    spacing = (Canvas(shape, 0.0).voxel * EXTENT,) * len(shape)
    sources = [
        Source(
            f"phantom_{index:03d}",
            (),
            {"phantom": structure, "seed": int(seed), "index": index, "patch_shape": shape},
            partial(phantom_case, structure, index, patch_shape=shape, seed=int(seed)),
        )
        for index in range(cases)
    ]
    return prepare(
        structure,
        sources,
        patch_shape=shape,
        spacing=spacing,
        max_cases=None,
        cache_dir=cache_dir,
        parameters={"data": "phantom", "cases": cases, "seed": int(seed)},
        rule="Every phantom is kept.",
        progress=progress,
    )


def phantom_case(structure: str, index: int, *, patch_shape: tuple[int, ...], seed: int) -> Case:
    """Draw one case.

    Args:
        structure: One of ``PHANTOM_STRUCTURES``.
        index: The case's number, >= 0.
        patch_shape: Voxels along two or three axes.
        seed: Of anatomy and noise, >= 0.

    Example:
        >>> case = phantom_case("kidney", 7, patch_shape=(32, 32, 32), seed=0)
        >>> case.name, round(float(case.label.mean()), 2)
        ('phantom_007', 0.06)

    """
    rng = np.random.default_rng([seed, PHANTOM_STRUCTURES.index(structure), index])
    canvas = Canvas(patch_shape, background=FAT)
    solid = SCENES[structure](canvas, rng)
    image = ndimage.gaussian_filter(canvas.image, BLUR, mode="nearest")

    directions = rng.normal(0, 2.5, (2, 3)).astype(np.float32)
    for direction, phase in zip(directions, rng.uniform(0, 2 * np.pi, 2), strict=True):
        wave = np.cos(np.tensordot(direction, canvas.grid, axes=1) + phase)
        image += np.float32(SHADING / 2) * wave.astype(np.float32)
    grain = rng.standard_normal(patch_shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(grain, GRAIN, mode="wrap")
    image += np.float32(rng.uniform(0.8, 1.2) * NOISE) * grain / grain.std()
    return Case(
        f"phantom_{index:03d}",
        IntensityScale.ct()(image),
        (solid <= 0).astype(np.uint8),
        (canvas.voxel * EXTENT,) * len(patch_shape),
    )
