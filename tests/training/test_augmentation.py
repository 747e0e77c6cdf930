from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from marginseg.training.augmentation import MAX_SHIFT, augment, rigid_displacement


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(shape: tuple[int, ...]) -> torch.Tensor:
    grid = np.indices(shape)
    centre = np.array(shape).reshape(-1, *(1,) * len(shape)) / 2
    return torch.from_numpy((((grid - centre) ** 2).sum(0) < (min(shape) / 4) ** 2).astype("u1"))


def test_probability_zero_changes_nothing() -> None:
    image, label = torch.rand(8, 8, 8), blob((8, 8, 8))
    moved, carried = augment(image, label, generator=generator(), probability=0.0)
    assert torch.equal(moved, image)
    assert torch.equal(carried, label)


def test_the_same_generator_gives_the_same_and_always_draws_as_many_numbers() -> None:
    image, label = torch.rand(8, 8, 8), blob((8, 8, 8))
    states = []
    for probability in (0.0, 0.5, 0.5, 1.0):
        source = generator(3)
        pair = augment(image, label, generator=source, probability=probability)
        states.append((source.get_state(), *pair))
    assert all(torch.equal(state[0], states[0][0]) for state in states)
    assert torch.equal(states[1][1], states[2][1])
    assert torch.equal(states[1][2], states[2][2])


def test_each_happens_with_its_probability() -> None:
    # An image that only smoothing changes in value, with a label that only motion moves.
    image = torch.zeros(64, 64)
    image[32:] = 1.0
    label = torch.zeros(64, 64, dtype=torch.uint8)
    source, n, moved = generator(), 400, 0
    for _ in range(n):
        label.zero_()
        label[16:48, 16:48] = 1
        moved += int(not torch.equal(augment(image, label, generator=source)[0], image))
    # 1 - 1/8 of them change something, but for a smoothing by less than 0.17 voxels, whose weights
    # round to 1 and 0: 17 % of an eighth. Five standard errors of a share over n draws.
    share = 7 / 8
    assert abs(moved / n - share) < 5 * math.sqrt(share * (1 - share) / n) + 0.022


def test_image_and_label_stay_together() -> None:
    label = blob((24, 24, 24))
    image = label.float()
    source = generator(1)
    for _ in range(20):
        moved, carried = augment(image, label, generator=source, probability=1.0)
        clear = (moved - 0.5).abs() > 0.25  # smoothing moves a curved border a little
        assert torch.equal((moved > 0.5)[clear], carried.bool()[clear])
        assert carried.dtype == torch.uint8


def test_shift_is_within_its_bounds_and_moves_the_centre_of_mass() -> None:
    label = blob((32, 32))
    source = generator(2)
    distances = []
    for _ in range(100):
        _, carried = augment(label.float(), label, generator=source, probability=1.0)
        change = np.subtract(
            ndimage.center_of_mass(carried.numpy()), ndimage.center_of_mass(label.numpy())
        )
        distances.append(np.abs(change).max())
    assert max(distances) < MAX_SHIFT * 32 + 0.5
    assert max(distances) > MAX_SHIFT * 32 / 2


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 3.0)])
def test_displacement_is_a_rigid_motion_in_space(spacing: tuple[float, ...] | None) -> None:
    shape, shift, angles = (5, 6, 7), (0.5, -1.0, 2.0), (0.1, -0.2, 0.3)
    field = rigid_displacement(shape, shift, angles, spacing=spacing).double().numpy()
    # Planes (0,1), (0,2), (1,2) turn about axes z, -y, x of a right-handed frame.
    rotation = (
        Rotation.from_rotvec([angles[2], 0, 0])
        * Rotation.from_rotvec([0, -angles[1], 0])
        * Rotation.from_rotvec([0, 0, angles[0]])
    ).as_matrix()
    scale = np.array(spacing or (1.0, 1.0, 1.0))
    grid = np.indices(shape).reshape(3, -1)
    centre = (np.array(shape)[:, None] - 1) / 2
    in_space = rotation @ ((grid - centre) * scale[:, None])
    expected = in_space / scale[:, None] + centre + np.array(shift)[:, None] - grid
    np.testing.assert_allclose(field.reshape(3, -1), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image": torch.zeros(4)}, "image"),
        ({"label": torch.zeros(4, 5)}, "label"),
        ({"probability": 1.5}, "probability"),
        ({"probability": math.nan}, "probability"),
        ({"spacing": (1.0,)}, "spacing"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    good: dict[str, object] = {"image": torch.zeros(4, 4), "label": torch.zeros(4, 4)}
    given = good | arguments
    image, label = given.pop("image"), given.pop("label")
    with pytest.raises(ValueError, match=f"^{named}: "):
        augment(image, label, generator=generator(), **given)  # type: ignore[arg-type]


def test_a_gpu_gets_its_numbers_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from memory that is not pinned would wait for all that is queued."""
    pinned: list[torch.Tensor] = []
    copies: list[torch.Tensor] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    def to(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool = False) -> Any:
        assert device.type == "cuda"
        assert non_blocking
        assert any(tensor is one for one in pinned)
        copies.append(tensor)
        return tensor.clone()

    arguments = ((5, 6, 7), (1.0, -2.0, 0.5), (0.1, 0.2, -0.1))
    expected = rigid_displacement(*arguments)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    field = rigid_displacement(*arguments, device=torch.device("cuda"))
    assert torch.equal(field, expected)
    assert len(copies) == 1
