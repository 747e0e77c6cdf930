"""Every set of vector instructions that the machine has gives the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from marginseg import (
    GaussianFieldNoise,
    _cpu,
    dice_threshold,
    gaussian_field,
    gaussian_filter,
    warp,
)
from marginseg.ops.assign_labels import assign_labels

SETS = ("base", "avx2", "avx512")


def _results() -> dict[str, np.ndarray]:
    """Run every op on inputs of awkward sizes, drawn by NumPy: torch's draws depend on the set."""
    generator = np.random.default_rng(0)
    results = {}
    for shape in ((7,), (13, 37), (5, 18, 67), (40, 33, 48)):
        name = "x".join(map(str, shape))
        n = len(shape)
        image = torch.from_numpy(generator.random(shape, dtype=np.float32))
        label = (image.cumsum(-1) % 7 < 2).to(torch.uint8)
        field = torch.from_numpy(generator.normal(0.0, 2.0, (n, *shape)).astype(np.float32))
        maps = {"float32": image, "float64": image.double(), "sparse": image * (image > 0.9)}
        for kind, values in maps.items():
            for beta in (1.0, 0.3, 4.0):
                best = dice_threshold(values, spatial_dims=n, beta=beta)
                found = torch.stack([best.threshold, best.dice, best.volume])
                results[f"threshold {kind} {name} {beta}"] = found
            results[f"filter {kind} {name}"] = gaussian_filter(values, 1.3, mode="mirror")
        classes = torch.stack([image, 1 - image, image.roll(1)]).flatten(1)
        gains = torch.tensor([1.5, 1.1, 0.7])
        for kind in (torch.float32, torch.float64):
            assigned = assign_labels(classes.to(kind), gains.to(kind), 0.4 * gains.to(kind))
            for part, value in assigned._asdict().items():
                results[f"assigned {part} {kind} {name}"] = value
        results[f"filter label {name}"] = gaussian_filter(label, 2.1, kernel="integrated")
        for interpolation in ("linear", "nearest"):
            options = {"interpolation": interpolation, "spatial_dims": n}
            results[f"warp {interpolation} {name}"] = warp(image, field, **options)
            results[f"label {interpolation} {name}"] = warp(label, field, **options)
        drawn = torch.from_numpy(generator.normal(size=(4 * 3 * 20**3)).astype(np.float32))
        noise = GaussianFieldNoise(std=2.0, length_scale=6.0, units="voxel", spatial_dims=n)
        results |= _from_coefficients(noise, label, drawn, name)
    return {key: value.numpy() for key, value in results.items()}


def _from_coefficients(noise, label, normals, name):
    from marginseg.ops.folded_share import folded_share_from_coefficients
    from marginseg.ops.gaussian_field import draw_coefficients, gaussian_field_ranks
    from marginseg.ops.sample import sample

    shape = tuple(label.shape)
    n = len(shape)
    ranks = gaussian_field_ranks(shape, 6.0)
    size = 2 * n * int(np.prod(ranks))
    coefficients = normals[:size].reshape(2, n, *ranks)
    scaled, factors = draw_coefficients(
        shape,
        noise.std_in_voxels(shape),
        noise.length_scale_in_voxels(shape),
        generator=None,
        batch_shape=(2,),
        dtype=torch.float32,
        device="cpu",
        coefficients=coefficients,
    )
    options = {"batch_shape": (2,), "coefficients": coefficients}
    return {
        f"field {name}": gaussian_field(shape, 2.0, 6.0, **options),
        f"sample {name}": sample(label, scaled, factors, interpolation="nearest"),
        # In voxels; the field is as large as its length scale, so that many of them do.
        f"folds {name}": label.numel() * folded_share_from_coefficients(3.0 * scaled, factors),
        f"folds float64 {name}": label.numel()
        * folded_share_from_coefficients(
            3.0 * scaled.double(), [factor.double() for factor in factors]
        ),
    }


@pytest.fixture(scope="module")
def results_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")

    def run(name):
        file = folder / f"{name}.npz"
        environment = {**os.environ, "MARGINSEG_SIMD": name}
        subprocess.run(
            [sys.executable, str(Path(__file__)), str(file)], check=True, env=environment
        )
        with np.load(file) as stored:
            return dict(stored)

    available = SETS[: SETS.index(_cpu.instruction_set()) + 1]
    return {name: run(name) for name in available}


def test_all_sets_agree(results_of):
    base = results_of["base"]
    assert len(base) > 40
    for name, results in results_of.items():
        assert results.keys() == base.keys()
        for key, value in results.items():
            if key.startswith(("threshold", "assigned")):
                assert np.array_equal(value, base[key]), (name, key)
            elif key.startswith("folds"):
                # As may a voxel whose determinant is within a rounding of 0.
                assert np.abs(value - base[key]).max() <= 2, (name, key)
            elif key.startswith(("label", "sample")):
                # A position within a rounding of halfway between two voxels may go either way.
                assert np.count_nonzero(value != base[key]) <= 2, (name, key)
            else:
                tolerance = 1e-12 if "float64" in key else 4e-6
                np.testing.assert_allclose(value, base[key], rtol=0, atol=tolerance, err_msg=key)


def test_an_unknown_set_is_refused():
    environment = {**os.environ, "MARGINSEG_SIMD": "sse9"}
    command = [sys.executable, "-c", "import marginseg"]
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1] == (
        "ImportError: MARGINSEG_SIMD: expected base, avx2 or avx512, got sse9"
    )


if __name__ == "__main__":
    np.savez(sys.argv[1], **_results())
