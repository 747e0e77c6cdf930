"""Dice-optimal cuts of probability maps, as MONAI's transforms after inference."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.networks import one_hot
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from marginseg.exclusive import optimal_labels
from marginseg.integrations.monai.tracking import as_tracked
from marginseg.rule import Rule, load_rule
from marginseg.threshold import optimal_segmentation


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
        probabilities = as_tracked(probabilities)
        is_tracked = isinstance(probabilities, MetaTensor)
        values = (probabilities.as_tensor() if is_tracked else probabilities).detach()
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
