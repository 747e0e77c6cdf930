"""Solids against the volumes that geometry gives them."""

from __future__ import annotations

import numpy as np
import pytest

from marginseg.data.shapes import Canvas, rotation


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return Canvas((48, 64, 40), 0.0)


def test_coordinates_have_unit_volume_and_a_central_origin(canvas: Canvas) -> None:
    assert np.prod(canvas.extent) == pytest.approx(1)
    np.testing.assert_allclose(canvas.grid.mean((1, 2, 3)), 0, atol=1e-6)
    for axis in range(3):
        steps = np.diff(canvas.grid[axis], axis=axis)
        np.testing.assert_allclose(steps, canvas.voxel, rtol=1e-3)


def test_a_canvas_of_two_axes_is_the_middle_plane_of_a_cube() -> None:
    cube, plane = Canvas((21, 21, 21), -95.0), Canvas((21, 21), -95.0)
    assert (plane.voxel, *plane.extent) == pytest.approx((cube.voxel, *cube.extent))
    points = np.linspace((-0.3, -0.2, -0.1), (0.3, 0.2, 0.2), 40)
    for canvas in (cube, plane):
        turn = rotation((0.4, 0.5, 0.6))
        canvas.paint(canvas.ellipsoid((0.1, 0, 0.05), (0.3, 0.2, 0.2), turn, bend=0.5), 40.0)
        canvas.reserve(canvas.tube(points, 0.1), 0.02)
        canvas.paint(canvas.ellipsoid((-0.1, 0, 0), (0.3, 0.4, 0.2)), 90.0)
    np.testing.assert_allclose(plane.image, cube.image[:, :, 10], rtol=0, atol=1e-3)
    assert len(np.unique(plane.image.round())) > 3


def test_rotations_are_rotations() -> None:
    turn = rotation((0.3, -1.1, 2.0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(rotation((0, 0, np.pi / 2)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_an_ellipsoid_has_its_volume_and_its_axes(canvas: Canvas) -> None:
    semi = (0.35, 0.2, 0.15)
    turn = rotation((0.4, 0.5, 0.6))
    inside = canvas.ellipsoid((0.02, -0.03, 0.01), semi, turn) <= 0
    assert inside.mean() == pytest.approx(4 / 3 * np.pi * np.prod(semi), rel=0.01)
    points = canvas.grid[:, inside].astype(np.float64)
    np.testing.assert_allclose(points.mean(1), (0.02, -0.03, 0.01), atol=2e-3)
    # The covariance of a uniform ellipsoid is R diag(s²/5) Rᵀ.
    expected = turn @ np.diag(np.square(semi) / 5) @ turn.T
    np.testing.assert_allclose(np.cov(points), expected, atol=3e-4)


def test_the_distance_to_a_ball_is_exact(canvas: Canvas) -> None:
    centre = np.array([0.1, 0.0, -0.05])
    true = np.linalg.norm(canvas.grid - centre[:, None, None, None], axis=0) - 0.25
    np.testing.assert_allclose(canvas.ellipsoid(centre, (0.25,) * 3), true, atol=1e-4)


def test_a_tube_is_the_distance_to_its_curve(canvas: Canvas) -> None:
    curve = np.column_stack([np.zeros(400), np.zeros(400), np.linspace(-1, 1, 400)])
    true = np.hypot(canvas.grid[0], canvas.grid[1]) - 0.15
    ours = canvas.tube(curve, 0.15)
    near = true < 0.2
    np.testing.assert_allclose(ours[near], true[near], atol=1e-3)
    assert (ours[~near] > 0.19).all()
    share = (ours <= 0).mean()
    assert share == pytest.approx(np.pi * 0.15**2 / np.prod(canvas.extent[:2]), rel=0.02)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.07])
def test_a_volume_is_met_to_a_voxel(canvas: Canvas, share: float) -> None:
    solid = canvas.with_volume(canvas.ellipsoid((0, 0.01, 0.02), (0.3, 0.2, 0.2)), share)
    # Symmetric voxels lie at the same distance and go in or stay out together.
    assert (solid <= 0).sum() == pytest.approx(share * solid.size, abs=8)


def test_paint_shares_out_the_voxels_on_a_surface() -> None:
    canvas = Canvas((48, 48, 48), 10.0)
    canvas.paint(canvas.ellipsoid((0, 0, 0), (0.3,) * 3), 110.0)
    mass = (canvas.image.astype(np.float64) - 10).mean() / 100
    # First order in the voxel's edge; a ball's volume 4/3 π r³ to a quarter of a per cent.
    assert mass == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.0025)
    assert canvas.image.min() == 10
    assert canvas.image.max() == 110


def test_what_is_reserved_keeps_its_distance() -> None:
    canvas = Canvas((32, 32, 32), 0.0)
    solid = canvas.ellipsoid((0, 0, 0), (0.2,) * 3)
    canvas.reserve(solid, 2 * canvas.voxel)
    canvas.paint(np.full(canvas.shape, -1.0, np.float32), 100.0)
    assert (canvas.image[solid < canvas.voxel] == 0).all()
    assert (canvas.image[solid > 3 * canvas.voxel] == 100).all()
    canvas.paint(solid, 50.0, on_top=True)
    assert (canvas.image[solid < -canvas.voxel] == 50).all()
