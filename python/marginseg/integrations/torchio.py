"""TorchIO: label noise as an augmentation, and label maps of probability maps.

Needs TorchIO: ``pip install 'marginseg[torchio]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchio import LabelMap, ScalarImage, Subject
from torchio.transforms.augmentation import RandomTransform
from torchio.transforms.intensity_transform import IntensityTransform
from torchio.transforms.preprocessing.label.label_transform import LabelTransform

from marginseg.exclusive import optimal_labels
from marginseg.integrations.label_noise import TOLERANCE, edges_of, lie_alike, std_along
from marginseg.noise import GaussianFieldNoise, Units
from marginseg.numbers import numbers
from marginseg.ops.boundary import LABEL_DTYPES
from marginseg.rule import Rule, load_rule
from marginseg.threshold import optimal_segmentation

#: One number, a pair to draw from, or one number for each axis.
Lengths = float | Sequence[float]


class RandomLabelNoise(RandomTransform, LabelTransform):
    """Redraw the label maps of a subject with a shaky hand.

    All label maps of a subject are deformed by one field, whole, and images are left as they are:
    see :class:`marginseg.GaussianFieldNoise`. What comes from outside the image is 0. So the
    transform belongs before patches are cut, as in a ``torchio.Queue``. An axis with a single
    voxel, as 2-D images have one, is not moved along.

    The seed of the field comes from torch's global generator, as all that TorchIO draws. It stands
    in the subject's history, with the lengths that were drawn: replayed, it gives the same labels.

    Args:
        std: How far a border moves, >= 0. One number; a pair is a range from which one number is
            drawn for each subject; three numbers are those of the axes.
        length_scale: Over which distance the displacement changes, > 0, in the same ways. It has a
            default with ``units="extent"`` only, 0.15·√2.
        units: ``"mm"``, with the spacing of the label maps; ``"voxel"``, or ``"extent"``, which are
            fractions of the extent along each axis.
        **kwargs: Those of every transform of TorchIO: ``p``, ``include``, ``exclude`` and so on.

    Raises:
        ValueError: An argument is out of its range. When applied: the label maps differ in shape,
            spacing or orientation.
        TypeError: When applied: a label map has fractions, as one of tissue probabilities has.

    Example:
        >>> import torch, torchio
        >>> label = torch.zeros(1, 32, 32, 32, dtype=torch.int16)
        >>> label[:, 12:20, 12:20, 12:20] = 3
        >>> subject = torchio.Subject(organ=torchio.LabelMap(tensor=label))
        >>> noisy = RandomLabelNoise(std=(0.5, 2), length_scale=10)(subject)
        >>> noisy.organ.shape, noisy.organ.data.dtype
        ((1, 32, 32, 32), torch.int16)
        >>> again = noisy.get_composed_history()(subject)
        >>> torch.equal(again.organ.data, noisy.organ.data)
        True

    """

    def __init__(
        self,
        std: Lengths,
        length_scale: Lengths | None = None,
        units: Units = "mm",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.std = numbers("std", std)
        self.length_scale = None if length_scale is None else numbers("length_scale", length_scale)
        self.units = units
        self.args_names = ["std", "length_scale", "units"]
        for name, lengths in (("std", self.std), ("length_scale", self.length_scale)):
            if isinstance(lengths, tuple) and len(lengths) == 2 and lengths[0] > lengths[1]:
                raise ValueError(f"{name}: expected a range of increasing numbers, got {lengths}")
        # A noise object refuses what is out of range, as soon as the transform is made.
        for end in (0, 1):
            _noise(_end(self.std, end), _end(self.length_scale, end), units, (1.0, 1.0, 1.0))

    def apply_transform(self, subject: Subject) -> Subject:
        """Draw the lengths and the seed, and deform the label maps."""
        if not self.get_images(subject):
            return subject
        transform = LabelNoise(
            std=self._drawn(self.std),
            length_scale=self._drawn(self.length_scale),
            units=self.units,
            seed=self._get_random_seed(),
            **self._get_base_args(),
        )
        return transform(subject)

    def _drawn(self, lengths: float | tuple[float, ...] | None) -> Any:
        if isinstance(lengths, tuple) and len(lengths) == 2:
            return self.sample_uniform(*lengths)
        return lengths


class LabelNoise(LabelTransform):
    """Redraw the label maps of a subject with the field of a seed.

    :class:`RandomLabelNoise` draws the seed, and is what augmentation needs; this is what stands in
    a subject's history.

    Args:
        std: How far a border moves: one number, or one for each axis.
        length_scale: Over which distance the displacement changes, likewise.
        units: ``"mm"``, ``"voxel"`` or ``"extent"``.
        seed: Of the field, >= 0.
        **kwargs: Those of every transform of TorchIO.

    Raises:
        ValueError: As for :class:`RandomLabelNoise`.
        TypeError: As for :class:`RandomLabelNoise`.

    Example:
        >>> import torch, torchio
        >>> label = torchio.LabelMap(tensor=torch.ones(1, 8, 8, 8, dtype=torch.uint8))
        >>> LabelNoise(std=1, length_scale=5, units="voxel", seed=7)(label).shape
        (1, 8, 8, 8)

    """

    def __init__(
        self,
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None = None,
        units: Units = "mm",
        *,
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.std = std
        self.length_scale = length_scale
        self.units = units
        self.seed = seed
        self.args_names = ["std", "length_scale", "units", "seed"]

    def apply_transform(self, subject: Subject) -> Subject:
        """Deform the label maps."""
        images = self.get_images_dict(subject)
        for name, image in images.items():
            _check_one_space(images, name)
            # The same seed and shape draw the same field for each label map.
            generator = torch.Generator().manual_seed(self.seed)
            std = std_along(numbers("std", self.std), image.spatial_shape)
            noise = _noise(std, self.length_scale, self.units, image.spacing)
            label = _whole_numbers(name, image.data)
            image.set_data(noise.sample(label, generator=generator)[0].to(image.data.dtype))
        return subject


class DiceOptimal(IntensityTransform):
    """Turn probability maps into the label maps whose Dice is expected to be largest.

    Each image becomes a ``LabelMap`` of the same name. ``include`` names the images that hold
    probabilities, where a subject has others too; with ``keep`` TorchIO keeps the map itself under
    another name.

    Args:
        exclusive: False: every channel is a class, cut at its own t*, and the label map has a mask
            for each (:func:`marginseg.optimal_segmentation`). True: classes exclude each other, as
            after a softmax, and the label map has one channel (:func:`marginseg.optimal_labels`).
            Needed unless there is a rule.
        background: Of exclusive classes: the background's channel, or None if there is none.
        rule: A rule that was fitted on a validation set, or its file; it decides in the place of
            t*, and knows itself whether classes exclude each other. Its label map has one channel;
            where classes overlap and have no label map, it has a mask for each class.
        **kwargs: Those of every transform of TorchIO: ``include``, ``keep`` and so on.

    Raises:
        TypeError: It is not told whether the classes exclude each other.
        ValueError: It is told otherwise than the rule says; the rule's file holds none. When
            applied: a map has values outside [0, 1], or NaN.
        OSError: The rule's file cannot be read.

    Example:
        >>> import torch, torchio
        >>> tube = torch.tensor([0.9, 0.4, 0.4, 0.1]).reshape(1, 4, 1, 1)
        >>> subject = torchio.Subject(tube=torchio.ScalarImage(tensor=tube))
        >>> cut = DiceOptimal(exclusive=False, keep={"tube": "probabilities"})(subject)
        >>> cut.tube.data.flatten().tolist()
        [1, 1, 1, 0]

    """

    def __init__(
        self,
        exclusive: bool | None = None,
        *,
        background: int | None = 0,
        rule: Rule | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if exclusive is None and rule is None:
            raise TypeError(
                "exclusive: expected True for a softmax or False for a sigmoid, got None without "
                "a rule"
            )
        self.exclusive = exclusive
        self.background = background
        self.rule = rule
        # What stands in a subject's history is the argument; its file is read once.
        self._loaded = None if rule is None else load_rule(rule)
        if self._loaded is not None and exclusive not in (None, self._loaded.classes.exclusive):
            said = self._loaded.classes.exclusive
            raise ValueError(f"exclusive: expected {said}, as the rule says, got {exclusive}")
        self.args_names = ["exclusive", "background", "rule"]

    def apply_transform(self, subject: Subject) -> Subject:
        """Replace the maps by their label maps."""
        images: dict[str, ScalarImage] = self.get_images_dict(subject)
        for name, image in images.items():
            try:
                labels = self._labels(image.data)
            except (TypeError, ValueError) as error:
                raise type(error)(f"image {name}: {error}") from error
            subject.add_image(LabelMap(tensor=labels, affine=image.affine), name)
        return subject

    def _labels(self, probabilities: Tensor) -> Tensor:
        if self._loaded is not None:
            if self._loaded.classes.painted is None:
                return self._loaded.masks(probabilities)
            return self._loaded.labels(probabilities)[None]
        if self.exclusive:
            best = optimal_labels(probabilities, background=self.background, spatial_dims=3)
            return best.labels[None]
        return optimal_segmentation(probabilities, spatial_dims=3)


def _noise(
    std: float | Sequence[float],
    length_scale: float | Sequence[float] | None,
    units: Units,
    spacing: Sequence[float],
) -> GaussianFieldNoise:
    noise = GaussianFieldNoise(
        std, length_scale, units, spacing=spacing if units == "mm" else None, spatial_dims=3
    )
    # One that is missing is refused when the transform is made, not by the first subject.
    noise.length_scale_in_voxels((1, 1, 1))
    return noise


def _end(lengths: float | tuple[float, ...] | None, end: int) -> Any:
    """Return one end of a range; what is none is its own."""
    return lengths[end] if isinstance(lengths, tuple) and len(lengths) == 2 else lengths


def _check_one_space(images: dict[str, LabelMap], name: str) -> None:
    """Refuse label maps that one field does not fit: in voxels it would not be the same one."""
    first_name, first = next(iter(images.items()))
    image = images[name]
    expected: Any
    remedy = "resample it"
    if first.spatial_shape != image.spatial_shape:
        what, expected, got = "spatial_shape", first.spatial_shape, image.spatial_shape
    elif lie_alike(first.affine, image.affine, 3):
        return
    elif not np.allclose(first.spacing, image.spacing, rtol=TOLERANCE):
        what, expected, got = "spacing", first.spacing, image.spacing
    elif first.orientation != image.orientation:
        what, expected, got = "orientation", first.orientation, image.orientation
        remedy = "put ToCanonical before"
    else:
        what, expected, got = "axes", edges_of(first.affine, 3), edges_of(image.affine, 3)
    raise ValueError(
        f"label map {name}: expected the {what} of {first_name}, {expected}, got {got}; include "
        f"one of them only, or {remedy}"
    )


def _whole_numbers(name: str, label: Tensor) -> Tensor:
    """Return a label map of an integer dtype; many files hold their whole numbers as floats."""
    if label.dtype in LABEL_DTYPES:
        return label
    whole = label.to(torch.int64)
    if not torch.equal(whole.to(label.dtype), label):
        raise TypeError(f"label map {name}: expected whole numbers, got fractions")
    return whole
