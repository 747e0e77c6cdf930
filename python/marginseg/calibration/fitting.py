"""The one way in: from cases, or their tables, to a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from marginseg.calibration.binned import FITS
from marginseg.calibration.calibration import METHODS, Calibration
from marginseg.calibration.joint import JOINT_METHODS, fit_jointly
from marginseg.calibration.maps import tensor_of
from marginseg.calibration.sample import VOXELS, VoxelSample, sampled
from marginseg.calibration.table import CalibrationTable, calibration_table, total
from marginseg.classes import Classes
from marginseg.numbers import integer, integers
from marginseg.values import whole


def fit(
    cases: Any,
    *,
    method: str = "platt",
    classes: Classes | None = None,
    channels: Sequence[int] | None = None,
    background: int | None = None,
    voxels: int = VOXELS,
    seed: int = 0,
) -> Calibration:
    """Fit a calibration on cases with labels: others than those it is applied to.

    Args:
        cases: One case or any iterable of them, which is gone through once; or a
            :class:`CalibrationTable`, or an iterable of them, and a :class:`VoxelSample` for joint
            methods. A case is a tuple of

            - a map, NumPy array or tensor, (channels, *spatial), within [0, 1];
            - its target: where each class is, (K, *spatial), bool or soft (marginals, the mean of
              several raters); or, with ``classes``, a label map (*spatial) of whole numbers;
            - and, where not all voxels count, a mask (*spatial), bool.

        method: Class by class, on the cross-entropy of soft or hard targets:

            - ``"platt"``: a · logit p + b, a within 1/20 to 20.
            - ``"temperature"``: logit p / T, a T of each class, 1/20 to 20. It leaves ½ where it
              is; so where a class is found too often, it makes p more probable than it is, which
              can take t* farther from where it should be.
            - ``"isotonic"``: any increasing function, by centred isotonic regression.

            Jointly, of classes that exclude each other, with the extra ``marginseg[calibration]``:
            softmax(W log p + b) with W ``"vector"``, a diagonal; ``"matrix"``; or ``"dirichlet"``,
            a matrix whose entries off the diagonal are penalised. Labels must be hard, and every
            class must occur.
        classes: Which channels and labels the classes have.
        channels: The channel of each class, instead of ``classes``. The default is that of the
            tables, and of cases one for each target, in their order.
        background: The channel of the background, instead of ``classes``. It gets what the
            classes leave.
        voxels: Of a joint method: how many voxels are drawn at most, as many of each class.
        seed: Of those draws.

    Returns:
        :class:`Calibration`. Where a class is in no voxel of the cases, or in all of them, it stays
        as it is; where the best slope is beyond the bounds, it is at the bound. ``outcome`` of its
        mapping says so.

    Raises:
        TypeError: Something is no array, or of a wrong dtype.
        ValueError: Shapes do not match, values are outside [0, 1], there is no case, or the method
            cannot take such cases.
        ModuleNotFoundError: A joint method without fiducio.

    Example:
        >>> import torch
        >>> random = torch.Generator().manual_seed(0)
        >>> logit = torch.randn(1, 20_000, generator=random, dtype=torch.float64)
        >>> label = torch.rand(1, 20_000, generator=random) < logit.sigmoid()
        >>> overconfident = (3 * logit).sigmoid()
        >>> calibration = fit((overconfident, label), method="temperature")
        >>> round(1 / calibration.mappings[0].slope)
        3
        >>> bool((calibration.apply(overconfident) - logit.sigmoid()).abs().max() < 0.02)
        True

    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    chosen = None if channels is None else integers("channels", channels)
    behind = None if background is None else integer("background", background)
    if classes is not None:
        if chosen is not None or behind is not None:
            raise ValueError("channels: expected none beside classes, which have them")
        chosen, behind = classes.channels, classes.background
    if method in JOINT_METHODS:
        return _jointly(cases, method, classes, chosen, behind, voxels, seed)
    table = total(
        case
        if isinstance(case, CalibrationTable)
        else calibration_table(*_arrays(case, classes), channels=chosen)
        for case in _several(cases)
    )
    fitted = FITS[method]
    if chosen is None:
        chosen = table.channels or tuple(range(table.classes))
    if table.channels is not None and table.channels != chosen:
        raise ValueError(f"channels: expected the table's, {table.channels}, got {chosen}")
    if len(chosen) != table.classes:
        raise ValueError(f"cases: expected tables of {len(chosen)} classes, got {table.classes}")
    mappings = tuple(fitted(table, row) for row in range(table.classes))
    return Calibration(method, chosen, behind, mappings)


def _jointly(
    cases: Any,
    method: str,
    classes: Classes | None,
    channels: tuple[int, ...] | None,
    background: int | None,
    voxels: int,
    seed: int,
) -> Calibration:
    if classes is not None and not classes.exclusive:
        raise ValueError(f"method: expected one class by class, as they overlap, got {method}")
    if background is None or channels is None:
        raise ValueError(f"background: expected channels and the background's for {method}")
    if sorted([*channels, background]) != list(range(len(channels) + 1)):
        raise ValueError(
            f"channels: expected all of the map's for {method}, got {channels} and {background}"
        )
    arrays = (
        case if isinstance(case, VoxelSample) else _arrays(case, classes)
        for case in _several(cases)
    )
    most, start = integer("voxels", voxels), integer("seed", seed)
    if most < 1 or start < 0:
        raise ValueError(f"voxels and seed: expected >= 1 and >= 0, got {most} and {start}")
    sample = sampled(arrays, channels, background, voxels=most, seed=start)
    return Calibration(method, channels, background, joint=fit_jointly(sample, method))


def _several(cases: Any) -> Iterable[Any]:
    """Return an iterable of cases, also of one."""
    if isinstance(cases, CalibrationTable | VoxelSample):
        return (cases,)
    if isinstance(cases, tuple) and cases and isinstance(cases[0], np.ndarray | Tensor):
        return (cases,)
    if isinstance(cases, np.ndarray | Tensor) or not isinstance(cases, Iterable):
        raise TypeError(
            f"cases: expected (probabilities, target) or several, got {type(cases).__name__}"
        )
    return cases


def _arrays(case: Any, classes: Classes | None) -> tuple[Any, Any, Any]:
    """Return map, targets (K, *spatial) and mask of a case."""
    if isinstance(case, CalibrationTable | VoxelSample):
        needed = "voxel samples" if isinstance(case, CalibrationTable) else "calibration tables"
        raise TypeError(f"cases: expected {needed} for this method, got a {type(case).__name__}")
    if not isinstance(case, tuple | list) or len(case) not in (2, 3):
        raise TypeError("cases: expected tuples (probabilities, target), or with a mask behind")
    probabilities, target, *rest = case
    mask = rest[0] if rest else None
    if classes is None:
        return probabilities, target, mask
    if np.ndim(target) != np.ndim(probabilities) - 1:
        if len(target) != len(classes.names):
            raise ValueError(
                f"target: expected a label map (*spatial), or ({len(classes.names)}, *spatial), "
                f"got shape {tuple(np.shape(target))}"
            )
        return probabilities, target, mask
    try:
        label = whole("target", tensor_of("target", target)).cpu().numpy()
    except ValueError as error:
        raise ValueError(f"{error}; soft targets are (K, *spatial)") from error
    labelled = classes.labelled(label)
    if labelled is not None:
        given = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
        mask = labelled if given is None else labelled & given
    return probabilities, classes.targets(label), mask
