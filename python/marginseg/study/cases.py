"""The cases of a run on the device that trains, loaded once for all the runs that share them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg.data import Dataset
from marginseg.noise import GaussianFieldNoise
from marginseg.study.configuration import StudyConfig
from marginseg.study.evaluation import noisy_label


@dataclass(frozen=True)
class LoadedCase:
    """A case on the device.

    Attributes:
        name: The case's.
        image: (*spatial), float32.
        label: (*spatial), uint8: the clean one.
        noisy: (*spatial), uint8: its one noisy version.
        spacing: Millimetres a voxel along each axis.

    """

    name: str
    image: Tensor
    label: Tensor
    noisy: Tensor
    spacing: tuple[float, ...]


# A study goes through structures and noise levels in order. So what was loaded last serves the next
# runs too, in all threads of the process.
_last: tuple[tuple[Any, ...], list[LoadedCase]] | None = None
_loading = threading.Lock()


def loaded_cases(
    dataset: Dataset, std: float, repeat: int, config: StudyConfig, device: torch.device
) -> list[LoadedCase]:
    """Return all cases of a structure with their noisy labels at a noise level.

    The noise is drawn on the CPU, whatever the device: every device trains on the same labels.

    Args:
        dataset: The structure's cases.
        std: The noise level a.
        repeat: Of the trainings; each has noisy labels of its own.
        config: The study's: its length scale and its seed.
        device: Where the cases are to be.

    """
    global _last  # noqa: PLW0603
    names = getattr(dataset.cases, "files", id(dataset))
    key = (dataset.structure, names, std, repeat, config.length_scale, config.seed, device)
    with _loading:
        if _last is None or _last[0] != key:
            _last = None  # the device need not have room for both
            cases = []
            for case in dataset.cases:
                label = torch.from_numpy(np.array(case.label))
                noise = GaussianFieldNoise(std, config.length_scale, spatial_dims=label.ndim)
                noisy = noisy_label(
                    label,
                    noise,
                    seed=config.seed,
                    structure=dataset.structure,
                    name=case.name,
                    repeat=repeat,
                )
                image = torch.from_numpy(np.array(case.image))
                image, label, noisy = (array.to(device) for array in (image, label, noisy))
                cases.append(LoadedCase(case.name, image, label, noisy, case.spacing))
            if device.type == "cuda":
                # Other threads have streams of their own, which know nothing of this one. To wait
                # for all of them would break the graph that one of them may be capturing.
                torch.cuda.current_stream(device).synchronize()
            _last = key, cases
        return _last[1]
