"""Three scenes of CT anatomy. Each draws a structure among its neighbours and returns its solid.

A scene takes a canvas of fat and a source of randomness, paints the canvas in Hounsfield units, and
returns the structure's signed distance, float32 of the canvas's shape, negative inside.

Axis 0 runs from the patient's right to the left, axis 1 from back to front, axis 2 upwards.
Neighbours keep a thin layer of fat between them and the structure, so that its surface can be seen
almost everywhere; in intensity alone they cannot be told from it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from marginseg.data.shapes import Canvas, Field, rotation

#: Hounsfield units.
FAT, MUSCLE, FLUID, AIR, LUNG, MARROW, CORTICAL_BONE = -95.0, 55.0, 10.0, -700.0, -820.0, 190.0, 420

#: Draws a structure among its neighbours, and returns its signed distance.
Scene = Callable[[Canvas, np.random.Generator], Field]


def kidney(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Draw a right kidney: a bent ellipsoid, opened by the hilum on the medial side.

    Around it lie the liver above and in front, psoas and spine behind, bowel below; the renal vein,
    as bright as the kidney itself, leaves through the hilum and is not part of it.
    """
    centre = rng.uniform(-0.06, 0.06, 3)
    semi = 0.33 * np.array([rng.uniform(0.55, 0.66), rng.uniform(0.5, 0.6), 1.0])
    turn = rotation(rng.uniform([-0.35, -0.35, -0.6], [0.35, 0.35, 0.6]))
    body = canvas.ellipsoid(centre, semi, turn, bend=rng.uniform(0.2, 0.9))
    depth = rng.uniform(1.0, 1.2)
    door = centre + turn @ (semi * [depth, 0, rng.uniform(-0.12, 0.12)])
    sinus_axes = semi * rng.uniform([0.75, 0.42, 0.32], [0.95, 0.6, 0.45])
    sinus = canvas.ellipsoid(door, sinus_axes, turn)
    solid = canvas.with_volume(np.maximum(body, -sinus), rng.uniform(0.052, 0.078))

    cortex = rng.uniform(140, 185)
    canvas.reserve(solid, rng.uniform(0.5, 1.4) * canvas.voxel)
    _spine(canvas, rng, (rng.uniform(0.5, 0.58), rng.uniform(-0.34, -0.24)), 0.19)
    psoas = _line((0.3, -0.32, 0.5), (0.22, -0.24, -0.5), rng, 0.03)
    canvas.paint(canvas.tube(psoas, np.linspace(0.07, 0.13, len(psoas))), _near(rng, MUSCLE))
    wall = canvas.ellipsoid((0.1, 0.35, 0), (0.62, 0.78, 2.0))
    canvas.paint(-wall, _near(rng, MUSCLE))
    liver_centre = rng.uniform([-0.42, 0.24, 0.2], [-0.28, 0.36, 0.4])
    liver = canvas.ellipsoid(liver_centre, rng.uniform(0.4, 0.52, 3), rotation((0, 0.3, 0)))
    canvas.paint(liver, cortex - rng.uniform(25, 60))
    _bowel(canvas, rng, (rng.uniform(-0.1, 0.3), 0.38, rng.uniform(-0.45, -0.2)), loops=3)
    cava = _line((0.38, -0.02, -0.5), (0.36, 0.02, 0.5), rng, 0.03)
    canvas.paint(canvas.tube(cava, rng.uniform(0.06, 0.08)), cortex + rng.normal(0, 10))

    inside = np.flatnonzero(solid < -0.06)
    value = np.full(canvas.shape, cortex, np.float32)
    for seed in rng.choice(inside, 8) if inside.size else ():
        pyramid = canvas.ellipsoid(canvas.grid.reshape(3, -1)[:, seed], rng.uniform(0.03, 0.05, 3))
        value -= np.float32(rng.uniform(15, 30)) * (pyramid < 0)
    canvas.paint(solid, value, on_top=True)

    vein = _line(door - turn @ (semi * [0.3, 0, 0]), (0.38, 0.02, door[2] * 0.7), rng, 0.02)
    vessel = np.maximum(canvas.tube(vein, 0.032), 0.4 * canvas.voxel - solid)
    canvas.paint(vessel, cortex + rng.normal(0, 8), on_top=True)
    pelvis = canvas.ellipsoid(door - turn @ (semi * [0.25, 0, 0.1]), 0.55 * sinus_axes, turn)
    canvas.paint(np.maximum(pelvis, 0.4 * canvas.voxel - solid), _near(rng, FLUID), on_top=True)
    return solid


def tube(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Draw an abdominal aorta: a thick, gently curved tube that crosses the volume.

    Beside it runs the inferior vena cava, a little darker; its own branches, just as bright, are
    not part of it; the spine lies behind, psoas at the sides, bowel and pancreas in front.
    """
    height = np.linspace(-0.6, 0.6, 160) * canvas.extent[2]
    place = rng.uniform(-0.07, 0.07, 2)
    path = _curve(height, place, rng.uniform(-0.16, 0.16, 2), rng.uniform(0.02, 0.06, 2), rng)
    widths = 0.11 * (1 + 0.15 * np.sin(np.linspace(0, rng.uniform(2, 6), len(path))))
    solid = canvas.with_volume(canvas.tube(path, widths), rng.uniform(0.032, 0.05))

    blood = rng.uniform(160, 230)
    canvas.reserve(solid, rng.uniform(0.5, 1.4) * canvas.voxel)
    _spine(canvas, rng, (place[0] + rng.uniform(0.02, 0.1), place[1] - 0.36), 0.22)
    for side in (-1, 1):
        psoas = _line((side * 0.27, -0.3, 0.5), (side * 0.36, -0.22, -0.5), rng, 0.03)
        canvas.paint(canvas.tube(psoas, np.linspace(0.06, 0.13, len(psoas))), _near(rng, MUSCLE))
    _bowel(canvas, rng, (rng.uniform(-0.3, 0.3), 0.42, rng.uniform(-0.4, 0.4)), loops=5)
    head, tail = rng.uniform(0, 0.2), rng.uniform(0.1, 0.4)
    pancreas = _line((-0.4, 0.26, head), (0.4, 0.3, tail), rng, 0.05)
    canvas.paint(canvas.tube(pancreas, rng.uniform(0.06, 0.09)), rng.uniform(80, 110))
    kidney_centre = (-0.47, -0.2, rng.uniform(-0.2, 0.2))
    canvas.paint(canvas.ellipsoid(kidney_centre, (0.13, 0.12, 0.3)), blood - rng.uniform(10, 50))
    beside = path + np.array([-rng.uniform(0.24, 0.29), rng.uniform(-0.02, 0.07), 0])
    canvas.paint(canvas.tube(beside, rng.uniform(0.09, 0.12)), blood - rng.uniform(15, 45))
    canvas.paint(solid, blood, on_top=True)
    for level in rng.uniform(0.25, 0.75, rng.integers(1, 4)):
        root = path[int(level * len(path))]
        far = root + rng.uniform([-0.3, 0.3, -0.3], [0.3, 0.5, 0.1])
        branch = canvas.tube(_line(root, far, rng, 0.03), rng.uniform(0.025, 0.035))
        canvas.paint(np.maximum(branch, -solid), blood - 10, on_top=True)
    return solid


def thin_tube(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Draw a thin tube that winds through fat from the bottom of the volume to its top.

    It is as dense as muscle, like an oesophagus, with a lung at either side, a bright vessel behind
    it, the heart in front, and nodes and a second, straight tube as dense as itself nearby.
    """
    height = np.linspace(-0.6, 0.6, 240) * canvas.extent[2]
    place = rng.uniform(-0.08, 0.08, 2)
    path = _curve(height, place, rng.uniform(-0.12, 0.12, 2), rng.uniform(0.09, 0.17, 2), rng)
    widths = 0.055 * (1 + 0.12 * np.sin(np.linspace(0, rng.uniform(5, 15), len(path))))
    solid = canvas.with_volume(canvas.tube(path, widths), rng.uniform(0.0105, 0.015))

    wall = rng.uniform(60, 90)
    canvas.reserve(solid, rng.uniform(0.9, 1.6) * canvas.voxel)
    _spine(canvas, rng, (place[0] + rng.uniform(-0.05, 0.05), -0.5), 0.18)
    for side in (-1, 1):
        lung_centre = (side * rng.uniform(0.62, 0.7), rng.uniform(-0.1, 0.1), 0)
        lung = canvas.ellipsoid(lung_centre, (rng.uniform(0.3, 0.36), 0.55, 0.8))
        canvas.paint(lung, LUNG)
        vessels = [
            canvas.tube(_line((side * 0.35, 0, level), (side * 0.55, y, level), rng, 0.05), 0.02)
            for level, y in zip(rng.uniform(-0.4, 0.4, 2), rng.uniform(-0.3, 0.3, 2), strict=True)
        ]
        canvas.paint(np.minimum(*vessels), 40.0)
    heart = (rng.uniform(-0.1, 0.2), rng.uniform(0.46, 0.54), rng.uniform(-0.5, -0.2))
    canvas.paint(canvas.ellipsoid(heart, rng.uniform(0.26, 0.36, 3)), rng.uniform(110, 160))
    aorta = _line((0.24, -0.27, -0.5), (0.2, -0.2, 0.5), rng, 0.03)
    canvas.paint(canvas.tube(aorta, rng.uniform(0.09, 0.12)), rng.uniform(170, 230))
    second = _line((-0.22, -0.24, -0.5), (-0.2, -0.2, 0.5), rng, 0.02)
    canvas.paint(canvas.tube(second, rng.uniform(0.035, 0.05)), wall + rng.normal(0, 10))
    for _ in range(rng.integers(2, 5)):
        node = rng.uniform([-0.3, -0.3, -0.45], [0.3, 0.35, 0.45])
        canvas.paint(canvas.ellipsoid(node, rng.uniform(0.03, 0.055, 3)), wall + rng.normal(0, 10))
    canvas.paint(solid, wall, on_top=True)
    return solid


#: The scenes by the name of their structure.
SCENES: dict[str, Scene] = {"kidney": kidney, "tube": tube, "thin_tube": thin_tube}


def _near(rng: np.random.Generator, value: float) -> float:
    return value + float(rng.normal(0, 6))


def _line(
    start: NDArray[np.float64] | tuple[float, ...],
    end: NDArray[np.float64] | tuple[float, ...],
    rng: np.random.Generator,
    sag: float,
) -> NDArray[np.float64]:
    """Return points from start to end, bowed by a random vector of standard deviation ``sag``."""
    t = np.linspace(-0.05, 1.05, 60)[:, None]
    straight = (1 - t) * np.asarray(start, np.float64) + t * np.asarray(end, np.float64)
    return np.asarray(straight + np.sin(np.pi * t) * rng.normal(0, sag, 3), np.float64)


def _curve(
    height: NDArray[np.float64],
    place: NDArray[np.float64],
    tilt: NDArray[np.float64],
    swing: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return a curve along axis 2: place + tilt · z + a sine of amplitude ``swing``, by axis."""
    waves = rng.uniform(0.8, 1.3, 2) * 2 * np.pi
    phase = rng.uniform(0, 2 * np.pi, 2)
    across = place + np.outer(height, tilt) + swing * np.sin(np.outer(height, waves) + phase)
    return np.column_stack([across, height])


def _spine(
    canvas: Canvas, rng: np.random.Generator, place: tuple[float, float], radius: float
) -> None:
    """Paint vertebral bodies with a cortical rim, and discs between them."""
    axis = np.column_stack([np.tile(place, (40, 1)), np.linspace(-0.6, 0.6, 40)])
    body = canvas.tube(axis * [1, 1, canvas.extent[2]], radius)
    level = np.cos(2 * np.pi * (canvas.grid[2] / rng.uniform(0.38, 0.46) + rng.uniform()))
    disc = (level > 0.85).astype(np.float32)
    rim = np.clip(1.5 + body / np.float32(canvas.voxel), 0, 1)
    bone = MARROW + rng.normal(0, 15) + (CORTICAL_BONE - MARROW) * rim
    canvas.paint(body, bone + disc * (80 - bone))


def _bowel(
    canvas: Canvas, rng: np.random.Generator, place: tuple[float, float, float], *, loops: int
) -> None:
    """Paint loops with a wall like muscle, filled with fluid and now and then some gas on top."""
    for _ in range(loops):
        centre = np.asarray(place) + rng.uniform(-0.25, 0.25, 3) * [1, 0.4, 1]
        semi = rng.uniform(0.09, 0.15, 3)
        loop = canvas.ellipsoid(centre, semi, rotation(rng.uniform(-1, 1, 3)))
        canvas.paint(loop, rng.uniform(70, 110))
        canvas.paint(loop + 0.03, rng.uniform(10, 50))
        if rng.uniform() < 0.5:
            gas = np.maximum(loop + 0.035, np.float32(centre[1] + 0.02) - canvas.grid[1])
            canvas.paint(gas, AIR)
