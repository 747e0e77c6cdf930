"""The samples of one label map in a folder: all of one call, with how they were drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SampleSet:
    """What one call writes for one label map.

    Attributes:
        record: ``NAME_noisy.json``, which tells how they were drawn.
        samples: ``NAME_noisy001.nii.gz`` and so on.

    """

    record: Path
    samples: list[Path]

    @classmethod
    def of(cls, folder: Path, name: str, count: int) -> SampleSet:
        """Name the files.

        Example:
            >>> SampleSet.of(Path("drawn"), "liver", 1).samples[0].name
            'liver_noisy001.nii.gz'

        """
        samples = [folder / f"{name}_noisy{number:03d}.nii.gz" for number in range(1, count + 1)]
        return cls(folder / f"{name}_noisy.json", samples)

    def replaced(self) -> list[Path]:
        """Return the samples of an earlier call that this one does not overwrite.

        Raises:
            ValueError: There are others, which no record knows: they may be anybody's.

        """
        from marginseg.files.records import read_json

        known = read_json(self.record)
        names = known.get("samples") if isinstance(known, dict) else None
        recorded = {str(name) for name in names} if isinstance(names, list) else set()
        stem = self.record.name.removesuffix(".json")
        pattern = re.compile(re.escape(stem) + r"\d{3,}\.nii\.gz")
        folder = self.record.parent
        found = sorted(path for path in folder.glob("*.nii.gz") if pattern.fullmatch(path.name))
        left = [path for path in found if path not in self.samples]
        strange = [path for path in left if path.name not in recorded]
        if strange:
            raise ValueError(
                f"{strange[0]}: a sample of another call would stand beside the new ones; "
                "remove it, or choose another folder"
            )
        return left

    def finish(self, replaced: list[Path], settings: dict[str, Any]) -> None:
        """Remove an earlier call's samples, and write how these were drawn."""
        from marginseg.files.records import write_json

        for path in replaced:
            path.unlink(missing_ok=True)
        write_json(self.record, {**settings, "samples": [path.name for path in self.samples]})
