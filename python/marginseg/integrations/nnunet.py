"""nnU-Net: a rule that turns its probabilities into labels, and label noise while it is trained.

Needs nnU-Net v2: ``pip install 'marginseg[nnunet]'``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import SegOnlyTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from torch import Tensor

from marginseg.integrations.label_noise import deformed_patch, std_along
from marginseg.noise import GaussianFieldNoise, Units
from marginseg.numbers import integer, numbers
from marginseg.ops.boundary import LABEL_DTYPES, listed
from marginseg.rule import Rule, load_rule

#: Names the file of the rule, for a label manager that nnU-Net makes on its own.
RULE_VARIABLE = "MARGINSEG_RULE"

Map = TypeVar("Map", NDArray[Any], Tensor)


class RuleLabelManager(LabelManager):
    """nnU-Net's label manager, with a rule that decides which label a voxel gets.

    Everything else is nnU-Net's own, and so are the labels where there is no rule: then the largest
    channel counts, and of regions what exceeds ½.

    :func:`use_rule` gives it to a predictor. nnU-Net also makes one by itself where the plans have
    ``"label_manager": "RuleLabelManager"`` and a module in its folder ``utilities/label_handling``
    imports this class; then the environment variable ``MARGINSEG_RULE`` names the rule's file.

    Args:
        label_dict: As for nnU-Net's.
        regions_class_order: As for nnU-Net's.
        force_use_labels: As for nnU-Net's.
        inference_nonlin: As for nnU-Net's.
        rule: A :class:`marginseg.rule.Rule`, or its file; the default is the file that
            ``MARGINSEG_RULE`` names, and no rule where it names none.

    Raises:
        OSError: The rule's file cannot be read.
        ValueError: It is no rule, or one for other classes.

    Example:
        >>> import numpy as np
        >>> labels = {"background": 0, "organ": 1}
        >>> manager = RuleLabelManager(labels, regions_class_order=None)
        >>> manager.convert_probabilities_to_segmentation(np.array([[0.6, 0.1], [0.4, 0.9]]))
        array([0, 1])

    """

    def __init__(
        self,
        label_dict: dict[str, Any],
        regions_class_order: list[int] | None,
        force_use_labels: bool = False,
        inference_nonlin: Any = None,
        *,
        rule: Rule | str | Path | None = None,
    ) -> None:
        super().__init__(label_dict, regions_class_order, force_use_labels, inference_nonlin)
        if rule is None:
            rule = os.environ.get(RULE_VARIABLE) or None
        self.rule = None if rule is None else load_rule(rule)
        if self.rule is not None:
            self._check(self.rule)

    @torch.inference_mode()
    def convert_probabilities_to_segmentation(self, predicted_probabilities: Map) -> Map:
        """Return the label map of probabilities (channels, *spatial), of nnU-Net's own dtypes."""
        if self.rule is None:
            return super().convert_probabilities_to_segmentation(predicted_probabilities)
        count, heads = len(predicted_probabilities), self.num_segmentation_heads
        if count != heads:
            raise ValueError(f"probabilities: expected {heads} channels, got {count}")
        labels: Any = self.rule.labels(predicted_probabilities)
        converted: Map
        if isinstance(predicted_probabilities, Tensor):
            converted = labels.to(torch.int16 if self.has_regions else torch.int64)
        else:
            converted = labels.astype(np.uint16 if self.has_regions else np.int64)
        return converted

    @torch.inference_mode()
    def convert_logits_to_segmentation(self, predicted_logits: Map) -> Map:
        """Return the label map of logits (channels, *spatial).

        nnU-Net spares itself the softmax, for the argmax of logits is that of probabilities. A rule
        cannot do without.
        """
        if self.rule is None:
            return super().convert_logits_to_segmentation(predicted_logits)
        probabilities = self.apply_inference_nonlin(predicted_logits)
        if isinstance(predicted_logits, np.ndarray):
            probabilities = probabilities.cpu().numpy()
        return self.convert_probabilities_to_segmentation(probabilities)

    def _check(self, rule: Rule) -> None:
        """Refuse a rule of another data set, whose labels would look right and mean others."""
        order = self.regions_class_order if self.has_regions else self.foreground_labels
        painted = tuple(int(value) for value in order or ())
        first = 0 if self.has_regions else 1
        expected = (not self.has_regions, tuple(range(first, first + len(painted))), painted)
        classes = rule.classes
        if (classes.exclusive, classes.channels, classes.painted) != expected:
            raise ValueError(
                f"rule: expected one for {_described(*expected)}, "
                f"got {_described(classes.exclusive, classes.channels, classes.painted)}"
            )


class RulePlansManager(PlansManager):
    """nnU-Net's plans, whose label manager has a rule; with them it reaches other processes too.

    Args:
        plans: The content of ``plans.json``, or its path.
        rule: A :class:`marginseg.rule.Rule`, or its file.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is no rule.

    """

    def __init__(self, plans: dict[str, Any] | str, rule: Rule | str | Path) -> None:
        super().__init__(plans)
        self.rule = load_rule(rule)

    def get_label_manager(self, dataset_json: dict[str, Any], **kwargs: Any) -> RuleLabelManager:
        """Return the label manager of a data set.

        Raises:
            ValueError: The rule is one for other classes.

        """
        return RuleLabelManager(
            label_dict=dataset_json["labels"],
            regions_class_order=dataset_json.get("regions_class_order"),
            rule=self.rule,
            **kwargs,
        )


def use_rule(predictor: nnUNetPredictor, rule: Rule | str | Path) -> None:
    """Have a predictor of nnU-Net decide by a rule, in all of its ways to predict.

    The probabilities that it saves stay those of the network.

    Args:
        predictor: An ``nnUNetPredictor`` that has been initialised.
        rule: A :class:`marginseg.rule.Rule`, or its file.

    Raises:
        OSError: The rule's file cannot be read.
        ValueError: It is no rule, or one for other classes; or the predictor has no model yet.

    """
    if getattr(predictor, "plans_manager", None) is None:
        raise ValueError("predictor: expected one that has been initialised from a trained model")
    plans = RulePlansManager(predictor.plans_manager.plans, rule)
    predictor.label_manager = plans.get_label_manager(predictor.dataset_json)
    predictor.plans_manager = plans


class LabelNoiseTransform(SegOnlyTransform):
    """Redraw the segmentation of a training patch with a shaky hand.

    A transform of batchgeneratorsv2, as nnU-Net applies them to the patches that it trains with;
    see :class:`marginseg.GaussianFieldNoise`. Only labels move. What is fixed stays where it is:
    the padding, -1, and whichever other values are named, such as nnU-Net's ignore label. What lies
    under it, and what lies outside the patch, is not known; a voxel that would get its label from
    there keeps its own. (In a whole image, what comes from outside is 0; a patch is a part of one.)
    An axis with a single voxel is not moved along.

    The seed of the field comes from NumPy's global generator: where nnU-Net is not told a seed, its
    augmenter seeds NumPy anew in each of its workers, and torch in none, so that torch's generator
    would draw the same fields in all of them.

    Args:
        std: How far a border moves, >= 0: one number, or one for each axis.
        length_scale: Over which distance the displacement changes, > 0, likewise. It has a default
            with ``units="extent"`` only.
        units: ``"voxel"``; ``"mm"``, which needs the spacing, or ``"extent"``, which are fractions
            of the patch along each axis.
        spacing: Of the patch's voxels, in millimetres.
        fixed: The values that stay where they are.
        channels: Those of the segmentation that are redrawn, all by one field; None: all of them.
            In a cascade the second one holds what an earlier network found, which nobody drew.

    Raises:
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> segmentation = torch.zeros(1, 24, 24, 24, dtype=torch.int16)
        >>> segmentation[:, 8:16, 8:16, 8:16], segmentation[:, :, :, 20:] = 1, -1
        >>> noise = LabelNoiseTransform(std=1.5, length_scale=6)
        >>> noisy = noise(segmentation=segmentation)["segmentation"]
        >>> bool((noisy[..., 20:] == -1).all()), noisy.unique().tolist()
        (True, [-1, 0, 1])

    """

    def __init__(
        self,
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None = None,
        units: Units = "voxel",
        *,
        spacing: Sequence[float] | None = None,
        fixed: Sequence[int] = (-1,),
        channels: Sequence[int] | None = (0,),
    ) -> None:
        super().__init__()
        self.std, self.length_scale = std, length_scale
        self.units, self.spacing = units, spacing
        # What is wrong or missing is refused here, not in a worker that augments.
        noise = self._noise(None)
        noise.length_scale_in_voxels((1,) * (noise.spatial_dims or 1))
        self.fixed = tuple(integer("fixed", value) for value in fixed)
        self.channels = None if channels is None else [integer("channels", c) for c in channels]

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw the seed."""
        return {"seed": int(np.random.randint(2**31, dtype=np.int64))}  # noqa: NPY002, see above

    def _apply_to_segmentation(self, segmentation: Tensor, *, seed: int, **params: Any) -> Tensor:
        if segmentation.dtype not in LABEL_DTYPES:
            expected = listed(LABEL_DTYPES)
            raise TypeError(f"segmentation: expected {expected}, got {segmentation.dtype}")
        drawn = segmentation if self.channels is None else segmentation[self.channels]
        noise = self._noise(tuple(segmentation.shape[1:]))
        redrawn = deformed_patch(noise, drawn, seed, self.fixed)
        if self.channels is None:
            return redrawn
        result = segmentation.clone()
        result[self.channels] = redrawn
        return result

    def _noise(self, shape: tuple[int, ...] | None) -> GaussianFieldNoise:
        return GaussianFieldNoise(
            self.std if shape is None else std_along(numbers("std", self.std), shape),
            self.length_scale,
            self.units,
            spacing=self.spacing,
            spatial_dims=None if shape is None else len(shape),
        )


def _described(exclusive: bool, channels: tuple[int, ...], painted: tuple[int, ...] | None) -> str:
    kind = "labels" if exclusive else "regions"
    values = "nothing" if painted is None else ", ".join(map(str, painted))
    return f"{kind} {values} in the channels {', '.join(map(str, channels))}"
