"""Transforms of MONAI: label noise for training, and Dice-optimal cuts after inference.

They take channel-first arrays (C, *spatial), as MONAI's own do, or dictionaries of them where the
name ends in d. They need the package `monai`.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor, get_track_meta
from monai.networks import one_hot
from monai.transforms import MapTransform, RandomizableTransform, Transform
from monai.utils import MAX_SEED, TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from marginseg.exclusive import optimal_labels
from marginseg.integrations.label_noise import (
    TOLERANCE,
    deformed_patch,
    edges_of,
    lie_alike,
    std_along,
)
from marginseg.noise import GaussianFieldNoise, Units
from marginseg.ops.boundary import Interpolation
from marginseg.rule import Rule, load_rule
from marginseg.threshold import optimal_segmentation

__all__ = ["DiceOptimal", "DiceOptimald", "RandLabelNoise", "RandLabelNoised"]


class _RandomField(RandomizableTransform):
    """What both transforms share: one seed from MONAI's own random state stands for a field.

    It is neither invertible nor lazy, which says to MONAI what it has to know: a pipeline of lazy
    transforms resamples what is pending before the labels are deformed, and ``Invertd`` passes by,
    for noise has no inverse.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012, MONAI's own

    def __init__(
        self,
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None,
        units: Units,
        prob: float,
        sample_std: bool,
        interpolation: Interpolation,
        spacing: Sequence[float] | None,
        patch: bool,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        # Wrong arguments are refused here, not in a worker. What lacks only a spacing, which comes
        # with each label, is as right in voxels.
        lacking = units == "mm" and spacing is None
        noise = GaussianFieldNoise(
            std,
            length_scale,
            "voxel" if lacking else units,
            spacing=spacing,
            interpolation=interpolation,
        )
        noise.length_scale_in_voxels((1,) * (noise.spatial_dims or 1))
        self._noise = noise
        self._units: Units = units
        self._spacing = None if spacing is None else tuple(spacing)
        self._sample_std = sample_std
        self._patch = patch
        self._seed = 0
        self._factor = 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw whether there is noise at all, and the seed of its field."""
        super().randomize(None)
        if self._do_transform:
            self._seed = int(self.R.randint(MAX_SEED, dtype="uint32"))
            self._factor = float(self.R.uniform()) if self._sample_std else 1.0

    def _deformed(self, given: Sequence[Any]) -> list[Tensor]:
        """Deform labels of one shape by one field, or return them as they are if there is none.

        What they lack is looked for either way. Else a pipeline would run until the first noise.
        """
        labels = [_tracked(label) for label in given]
        if not labels:
            return labels
        shapes = [tuple(label.shape[1:]) for label in labels]
        for label, shape in zip(labels, shapes, strict=True):
            if not 1 <= len(shape) <= 3:
                raise ValueError(
                    "label: expected an axis of channels and 1 to 3 spatial axes, got shape "
                    f"{tuple(label.shape)}"
                )
            if shape != shapes[0]:
                raise ValueError(
                    f"label: expected one shape, as one field deforms all, got {shapes[0]} and "
                    f"{shape}"
                )
        _check_one_space(given, len(shapes[0]))
        model = self._model(given, shapes[0])
        return [self._sample(model, label) for label in labels] if self._do_transform else labels

    def _model(self, given: Sequence[Any], shape: tuple[int, ...]) -> GaussianFieldNoise:
        """Return the model for labels of a spatial shape, whose affine may say the spacing."""
        n = len(shape)
        return GaussianFieldNoise(
            std_along(self._noise.std, shape, self._factor),
            self._noise.length_scale,
            self._units,
            spacing=self._spacing_of(given, n) if self._units == "mm" else None,
            spatial_dims=n,
            interpolation=self._noise.interpolation,
        )

    def _spacing_of(self, given: Sequence[Any], n: int) -> Sequence[float]:
        """Return what was given, or what the first label says that came with an affine."""
        if self._spacing is not None:
            return self._spacing
        affine = next((label.affine for label in given if _is_measured(label)), None)
        if affine is None or affine.shape[-1] <= n:
            raise ValueError(
                f'spacing: needed with units="mm" for labels without affines of {n} axes, or with '
                "none but that of tracking: give spacing=, or have the cache keep meta data "
                "(PersistentDataset(track_meta=True, weights_only=False))"
            )
        # Columns of the affine, not pixdim: that of a plane within a volume has rows of all axes.
        return tuple(affine[:-1, :n].double().square().sum(0).sqrt().tolist())

    def _sample(self, model: GaussianFieldNoise, label: Tensor) -> Tensor:
        values = label.as_tensor() if isinstance(label, MetaTensor) else label
        if self._patch:
            noisy = deformed_patch(model, values, self._seed)
        else:
            noisy = model.sample(values, generator=self._seed)[0]
        result, *_ = convert_to_dst_type(noisy, label)
        return result


class RandLabelNoise(_RandomField):
    """Deform a label by a Gaussian random field: borders as if drawn by a shaky hand.

    The noise is that of :class:`marginseg.GaussianFieldNoise`, its field drawn anew for each call
    from the transform's own random state, so that ``set_random_state``, ``set_determinism`` and the
    workers of a ``DataLoader`` do with it what they do with any random transform of MONAI.

    Its place is before any crop, as before ``RandCropByPosNegLabel``: what comes from outside the
    label is 0, so that noise after a crop takes foreground away at the faces of the patch, unless
    ``patch`` says that it is one. An axis with a single voxel is not moved along.

    Args:
        std: How far a border moves, as for :class:`marginseg.GaussianFieldNoise`.
        length_scale: Over which distance the displacement changes; needed in units other than
            ``"extent"``.
        units: Of both: ``"extent"``, ``"mm"`` or ``"voxel"``.
        prob: The probability that there is noise; MONAI's usual 0.1 is the default.
        sample_std: Whether the std of each call is drawn uniformly between 0 and ``std``.
        interpolation: ``"nearest"`` or ``"linear"``.
        spacing: Voxel size in millimetres; by default the affine of a ``MetaTensor`` says it,
            unless it is the identity that MONAI gives to plain arrays.
        patch: Whether labels are patches, of which it is not known what lies outside. A voxel that
            would get its label from there then keeps its own.

    Raises:
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 32, 32); label[:, 8:24, 8:24] = 1
        >>> noise = RandLabelNoise(std=0.05, prob=1.0).set_random_state(0)
        >>> noisy = noise(label)
        >>> noisy.shape, noisy.dtype, bool((noisy != label).any())
        (torch.Size([1, 32, 32]), torch.float32, True)

    """

    def __init__(
        self,
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None = None,
        units: Units = "extent",
        *,
        prob: float = 0.1,
        sample_std: bool = False,
        interpolation: Interpolation = "nearest",
        spacing: Sequence[float] | None = None,
        patch: bool = False,
    ) -> None:
        super().__init__(std, length_scale, units, prob, sample_std, interpolation, spacing, patch)

    def __call__(self, label: Any, randomize: bool = True) -> Tensor:
        """Return the label with noise.

        Args:
            label: Array of shape (C, *spatial), of any dtype, its values whole numbers. All
                channels are deformed by one field.
            randomize: Whether to draw a new field; else the last one is taken.

        Returns:
            Tensor of the label's shape and dtype; of a ``MetaTensor`` with its meta data.

        Raises:
            ValueError: The label has values that are not whole, or not 1 to 3 spatial axes; or the
                units are millimetres, and nothing says the spacing.

        """
        if randomize:
            self.randomize()
        return self._deformed([label])[0]


class RandLabelNoised(_RandomField, MapTransform):
    """Dictionary version of :class:`RandLabelNoise`: one field deforms the labels of all keys.

    So two raters' labels of a case, or a label and the mask beside it, stay together. In units of
    millimetres the first label with an affine says the spacing. Its place is before any crop, as
    before ``RandCropByPosNegLabeld``, unless ``patch`` is true.

    Args:
        keys: Of the labels, which have one spatial shape; those with affines, also axes of one
            direction and spacing, as after ``Orientationd``.
        std: As for :class:`RandLabelNoise`, as are all that follow.
        length_scale: See there.
        units: See there.
        prob: See there.
        sample_std: See there.
        interpolation: See there.
        spacing: See there.
        patch: See there.
        allow_missing_keys: Whether items without some of the keys are let through.

    Raises:
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 32, 32); label[:, 8:24, 8:24] = 1
        >>> noise = RandLabelNoised(("label", "other"), std=0.05, prob=1.0)
        >>> noisy = noise({"label": label, "other": label, "image": label})
        >>> bool((noisy["label"] == noisy["other"]).all()), noisy["image"] is label
        (True, True)

    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None = None,
        units: Units = "extent",
        *,
        prob: float = 0.1,
        sample_std: bool = False,
        interpolation: Interpolation = "nearest",
        spacing: Sequence[float] | None = None,
        patch: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        _RandomField.__init__(
            self, std, length_scale, units, prob, sample_std, interpolation, spacing, patch
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with noise in the labels.

        Raises:
            KeyError: A key is missing, and may not.
            ValueError: As for :class:`RandLabelNoise`; or the labels differ in shape, or in the
                direction or spacing of their axes.

        """
        result = dict(data)
        self.randomize()
        keys = list(self.key_iterator(result))
        labels = self._deformed([result[key] for key in keys])
        result.update(zip(keys, labels, strict=True))
        return result


class DiceOptimal(Transform):
    """Turn probabilities into the segmentation whose Dice is expected to be largest.

    It stands where ``AsDiscrete(argmax=True)`` or ``AsDiscrete(threshold=0.5)`` would, after the
    softmax or sigmoid and, in a pipeline that has one, after ``Invertd``: on the voxels on which
    Dice will be counted.

    Args:
        exclusive: True for a softmax, whose classes exclude each other
            (:func:`marginseg.optimal_labels`); False for a sigmoid, each of whose channels is cut
            at a threshold of its own (:func:`marginseg.optimal_segmentation`). Needed unless there
            is a rule.
        background: The softmax's channel of the background; None: it has none, channel i is class
            i + 1, and 0 stands for no class.
        to_onehot: Of exclusive classes: give a channel for each of so many label values, as
            ``AsDiscrete`` does.
        beta: What is to be expected largest is F_β in the place of Dice, which is F_1.
        rule: A :class:`marginseg.rule.Rule`, or the path of one that ``marginseg evaluate`` has
            written. It says which classes there are, whether they exclude each other, where to cut,
            and what to take out; exclusive ones get the label values that it paints them with.
        dtype: Of the result.

    Raises:
        TypeError: It is not told whether the classes exclude each other.
        ValueError: ``to_onehot`` is asked of classes that do not, or too small for the rule's label
            values; an argument is out of its range, or contradicts the rule; a rule's file holds
            none.
        OSError: A rule's file cannot be read.

    Example:
        >>> import torch
        >>> sigmoid = torch.tensor([[0.9, 0.4, 0.4, 0.1], [0.2, 0.2, 0.0, 0.0]])
        >>> DiceOptimal(exclusive=False)(sigmoid).tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
        >>> softmax = torch.tensor([[0.5, 0.5, 0.9], [0.1, 0.4, 0.1], [0.4, 0.1, 0.0]])
        >>> DiceOptimal(exclusive=True)(softmax).tolist()
        [[2.0, 1.0, 0.0]]

    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012, MONAI's own

    def __init__(
        self,
        exclusive: bool | None = None,
        *,
        background: int | None = 0,
        to_onehot: int | None = None,
        beta: float | None = None,
        rule: Rule | str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rule = None if rule is None else load_rule(rule)
        if self.rule is not None:
            said = self.rule.classes.exclusive
            if exclusive not in (None, said):
                raise ValueError(f"exclusive: expected {said}, as the rule says, got {exclusive}")
            if beta is not None:
                raise ValueError(f"beta: expected None, as the rule has its own, got {beta}")
            exclusive = said
        if exclusive is None:
            raise TypeError(
                "exclusive: expected True for a softmax or False for a sigmoid, got None without "
                "a rule"
            )
        if to_onehot is not None and not exclusive:
            raise ValueError(
                f"to_onehot: expected None for classes that may overlap, got {to_onehot}"
            )
        painted = None if self.rule is None else self.rule.classes.painted
        if painted is not None:
            _check_one_hot(to_onehot, max(painted) + 1)
        self.exclusive = exclusive
        self.background = background
        self.to_onehot = to_onehot
        self.metric: Literal["dice", "fbeta"] = "dice" if beta is None else "fbeta"
        self.beta = beta
        self.dtype = dtype

    def __call__(self, probabilities: Any) -> Tensor:
        """Return the segmentation.

        Args:
            probabilities: Array of shape (K, *spatial), floating, within [0, 1].

        Returns:
            Exclusive classes: a label map (1, *spatial), or (to_onehot, *spatial). Others: masks
            (K, *spatial), or one for each class of the rule. Of a ``MetaTensor`` with its meta
            data.

        Raises:
            TypeError: The map is not floating.
            ValueError: It has values outside [0, 1], or NaN, or too few channels, or more classes
                than ``to_onehot``; or more axes, as a batch has, whose cases have cuts of their
                own.

        """
        probabilities = _tracked(probabilities)
        tracked = isinstance(probabilities, MetaTensor)
        values = (probabilities.as_tensor() if tracked else probabilities).detach()
        self._check(values.shape)
        result, *_ = convert_to_dst_type(self._segmented(values), probabilities, dtype=self.dtype)
        return result

    def _check(self, shape: torch.Size) -> None:
        if not 1 <= len(shape) - 1 <= 3:
            raise ValueError(
                "probabilities: expected (K, *spatial) with 1 to 3 spatial axes, got shape "
                f"{tuple(shape)}; decollate the batch first"
            )
        if self.rule is None:
            _check_one_hot(self.to_onehot, shape[0] + (self.background is None))

    def _segmented(self, values: Tensor) -> Tensor:
        if not self.exclusive:
            if self.rule is not None:
                return self.rule.masks(values)
            return optimal_segmentation(
                values, self.metric, beta=self.beta, spatial_dims=values.ndim - 1
            )
        if self.rule is not None:
            labels = self.rule.labels(values)
        else:
            labels = optimal_labels(
                values,
                metric=self.metric,
                beta=self.beta,
                background=self.background,
                spatial_dims=values.ndim - 1,
            ).labels
        labels = labels[None]
        if self.to_onehot is None:
            return labels
        return one_hot(labels, self.to_onehot, dtype=self.dtype, dim=0)


class DiceOptimald(MapTransform):
    """Dictionary version of :class:`DiceOptimal`.

    Args:
        keys: Of the probability maps.
        exclusive: As for :class:`DiceOptimal`, as are all that follow.
        background: See there.
        to_onehot: See there.
        beta: See there.
        rule: See there.
        dtype: See there.
        allow_missing_keys: Whether items without some of the keys are let through.

    Raises:
        TypeError: As for :class:`DiceOptimal`.
        ValueError: As for :class:`DiceOptimal`.
        OSError: As for :class:`DiceOptimal`.

    Example:
        >>> import torch
        >>> item = {"pred": torch.tensor([[0.9, 0.4, 0.4, 0.1]]), "image": torch.ones(1, 4)}
        >>> DiceOptimald("pred", exclusive=False)(item)["pred"].tolist()
        [[1.0, 1.0, 1.0, 0.0]]

    """

    backend = DiceOptimal.backend

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        exclusive: bool | None = None,
        *,
        background: int | None = 0,
        to_onehot: int | None = None,
        beta: float | None = None,
        rule: Rule | str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.converter = DiceOptimal(
            exclusive,
            background=background,
            to_onehot=to_onehot,
            beta=beta,
            rule=rule,
            dtype=dtype,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with segmentations in the place of probabilities.

        Raises:
            KeyError: A key is missing, and may not.
            TypeError: As for :class:`DiceOptimal`.
            ValueError: As for :class:`DiceOptimal`.

        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.converter(result[key])
        return result


def _check_one_hot(channels: int | None, least: int) -> None:
    if channels is not None and channels < least:
        raise ValueError(f"to_onehot: expected at least {least}, got {channels}")


def _check_one_space(given: Sequence[Any], n: int) -> None:
    """Refuse labels whose axes differ: in space the field of one would be another for the next."""
    affines = [label.affine for label in given if isinstance(label, MetaTensor)]
    for affine in affines[1:]:
        if not lie_alike(affines[0], affine, n):
            raise ValueError(
                "label: expected axes of one direction and spacing, as one field deforms all, got "
                f"{edges_of(affines[0], n)} and {edges_of(affine, n)}: put Orientationd and "
                "Spacingd before"
            )


def _is_measured(label: Any) -> bool:
    """Whether a label came with an affine that says how large voxels are.

    To track a plain array gives it the identity, which says nothing; a random transform before may
    have tracked it, and turned that. No file's label has an affine and no other meta data.
    """
    if not isinstance(label, MetaTensor):
        return False
    edges = label.affine[:-1, :-1].double().square().sum(0).sqrt()
    return not set(label.meta) <= {"affine", "space"} or bool((edges - 1).abs().max() > TOLERANCE)


def _tracked(array: Any) -> Tensor:
    """Return an array as a tensor, as MONAI's transforms do: with meta data, unless that is off."""
    return convert_to_tensor(array, track_meta=get_track_meta())
