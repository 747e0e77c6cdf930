"""What a study notes of where it ran, and of what its noise does to its structures."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from marginseg.data import Dataset
from marginseg.noise import GaussianFieldNoise
from marginseg.ops.folded_share import folded_share
from marginseg.study.configuration import StudyConfig
from marginseg.training.device import computing_device, training_on

#: Cases that the statistics of the noise are taken from.
NOISE_CASES = 8


def environment(config: StudyConfig) -> dict[str, Any]:
    """Return the versions, and what networks are trained on and in."""
    here = training_on(config.precision, computing_device(config.device))
    return {
        "marginseg": version("marginseg"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": here.device,
        "precision": here.precision,
    }


def noise_statistics(config: StudyConfig, datasets: dict[str, Dataset]) -> list[dict[str, Any]]:
    """Say of each structure and level what the noise does to the volume.

    ``folded_share`` is the share of voxels where ω + X(ω) turns over, ``volume_loss`` the share
    of the structure that the noise carries out of the domain (Theorem 2), on average.
    """
    statistics = []
    for structure, dataset in datasets.items():
        count = min(NOISE_CASES, len(dataset))
        labels = [torch.tensor(dataset[i].label, device="cpu") for i in range(count)]
        for std in config.std:
            noise = GaussianFieldNoise(std, config.length_scale, spatial_dims=labels[0].ndim)
            generator = torch.Generator().manual_seed(config.seed)
            fields = noise.displacement(labels[0].shape, len(labels), generator=generator)
            shares = [
                float(noise.volume_loss(label)) * label.numel() / max(int(label.sum()), 1)
                for label in labels
            ]
            statistics.append(
                {
                    "structure": structure,
                    "std": std,
                    "folded_share": float(torch.as_tensor(folded_share(fields)).double().mean()),
                    "volume_loss": sum(shares) / len(shares),
                }
            )
    return statistics
