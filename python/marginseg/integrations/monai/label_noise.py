"""Label noise for training, as MONAI's random transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import MAX_SEED, TransformBackends, convert_to_dst_type
from torch import Tensor

from marginseg.integrations.label_noise import (
    TOLERANCE,
    deformed_patch,
    edges_of,
    lie_alike,
    std_along,
)
from marginseg.integrations.monai.tracking import as_tracked
from marginseg.noise import GaussianFieldNoise, Units
from marginseg.ops.boundary import Interpolation


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
        labels = [as_tracked(label) for label in given]
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
