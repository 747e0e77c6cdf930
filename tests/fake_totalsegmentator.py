"""A fake download in TotalSegmentator's layout, made from phantoms: ``python FILE -o FOLDER``.

Every subject is one scan at 1.5 mm of three scenes side by side, in Hounsfield units, with a mask
for each. Some have what real ones have: no mask, an empty one, a scan that ends within the
structures, a file that was not fully downloaded.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np

from marginseg.data.intensity import IntensityScale
from marginseg.data.phantom import phantom_case

SCENES = {"kidney_right": "kidney", "aorta": "tube", "esophagus": "thin_tube"}

#: Millimetres a voxel.
SPACING = 1.5

#: Voxels of one scene; they lie side by side along the first axis.
SHAPE = (40, 40, 60)

MISSING, EMPTY, CUT, TRUNCATED = "missing", "empty", "cut", "truncated"

#: What is wrong with a subject, by its number's last digit.
DEFECTS = {
    2: ("kidney_right", MISSING),
    5: ("esophagus", EMPTY),
    6: ("all", CUT),
    9: ("aorta", EMPTY),
}

#: The one subject whose scan is truncated.
CORRUPT = 4

#: One in so many planes is left of a scan that ends within the structures: the kidney's tip.
KEPT = 3


def defect(subject: int, structure: str) -> str | None:
    """Return what makes a subject unusable for a structure under a rule against cut structures."""
    if subject == CORRUPT:
        return TRUNCATED
    whose, kind = DEFECTS.get(subject % 10, ("", ""))
    return kind if whose in (structure, "all") else None


def make(
    folder: Path,
    subjects: int = 30,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """Write ``s0000`` and so on, as many as asked for."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda subject: _write(folder, subject, seed, shape), range(subjects)))


def _write(folder: Path, subject: int, seed: int, shape: tuple[int, int, int]) -> None:
    cases = [
        phantom_case(scene, subject, patch_shape=shape, seed=seed) for scene in SCENES.values()
    ]
    scale = IntensityScale.ct()
    image = np.concatenate([case.image for case in cases]) * scale.scale + scale.centre
    cut = DEFECTS.get(subject % 10, ("", ""))[1] == CUT
    planes = shape[2] // KEPT if cut else shape[2]
    home = folder / f"s{subject:04d}"
    (home / "segmentations").mkdir(parents=True)
    _save(home / "ct.nii.gz", np.rint(image)[..., :planes].astype(np.int16))
    for place, (structure, case) in enumerate(zip(SCENES, cases, strict=True)):
        wrong = defect(subject, structure)
        if wrong == MISSING:
            continue
        mask = np.zeros(image.shape, np.uint8)
        if wrong != EMPTY:
            mask[place * shape[0] : (place + 1) * shape[0]] = case.label
        _save(home / f"segmentations/{structure}.nii.gz", mask[..., :planes])
    if subject == CORRUPT:
        scan = home / "ct.nii.gz"
        scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])


def _save(path: Path, array: np.ndarray) -> None:
    affine = np.diag([SPACING, SPACING, SPACING, 1])
    affine[:3, 3] = -180, -120, -300
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a fake TotalSegmentator download.")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--subjects", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.output, options.subjects, options.seed)


if __name__ == "__main__":
    main()
