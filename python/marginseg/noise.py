"""Label noise by Gaussian field deformations, and its marginals in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from marginseg.arrays import Array, as_tensor, like
from marginseg.axes import spatial_axes
from marginseg.numbers import integer, integers, numbers
from marginseg.ops.boundary import (
    BYTE_DTYPES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    Interpolation,
    listed,
)
from marginseg.ops.folded_share import folded_share, folded_share_from_coefficients
from marginseg.ops.gaussian_field import Method, draw_coefficients, gaussian_field, seeded
from marginseg.ops.gaussian_filter import gaussian_filter
from marginseg.ops.kept_mass import kept_mass
from marginseg.ops.layout import as_it_lies, reverse_axes
from marginseg.ops.root_kernel import takes_kernels
from marginseg.ops.sample import sample
from marginseg.ops.warp import warp
from marginseg.values import WIDER, whole, within_unit

Units = Literal["extent", "mm", "voxel"]
UNITS: tuple[Units, ...] = ("extent", "mm", "voxel")

#: The paper's code: a filter of 0.15 of the extent, so b = 0.15·√2.
DEFAULT_LENGTH_SCALE = 0.15 * math.sqrt(2.0)

#: How many standard deviations the marginals' kernel reaches, by dtype. Of a Gaussian's mass 4e-8
#: lies beyond the first, which is less than a float32 near 1 resolves, and 2e-9 beyond the second.
TRUNCATE = {torch.float32: 5.5, torch.float64: 6.0}


class GaussianFieldNoise:
    r"""The noise model :math:`L(\omega) = l(\omega + X(\omega))`, 0 outside the domain.

    The n components of X are independent centred Gaussian fields with covariance
    :math:`a^2 \exp(-\|\omega - \omega'\|^2 / 2b^2)`. The displacement has mean zero everywhere and
    the variance a² everywhere, up to the border.

    A label is constant on voxels, and :meth:`sample` looks it up at the voxel that holds
    ω + X(ω). So :meth:`marginals` are exact: they agree with the mean over many samples for any
    ``std``, also below a voxel, and up to the border. With ``interpolation="linear"`` the label is
    interpolated and cut at ½: smoother borders, and marginals that hold only approximately.

    Args:
        std: a, >= 0: how far a border moves. One number, or one for each axis. A voxel keeps its
            label's border within ±2a in 95 % of the samples.
        length_scale: b, > 0: over which distance the displacement changes. One number, or one for
            each axis; the default is 0.15·√2 of the extent, and in other units samples need a
            number (marginals do not depend on it). Short length scales fold the volume over, see
            :meth:`sample_folded`.
        units: Of ``std`` and ``length_scale``: ``"extent"`` (fractions of the domain along each
            axis), ``"mm"`` (then ``spacing`` is needed) or ``"voxel"``.
        spacing: Voxel size in millimetres along each spatial axis.
        spatial_dims: How many trailing axes of labels are spatial; the default is all, up to three
            (see :func:`marginseg.axes.spatial_axes`).
        interpolation: ``"nearest"`` (exact) or ``"linear"`` (smoother, approximate).

    Raises:
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> label = torch.zeros(64, 64, dtype=torch.uint8); label[24:40, 24:40] = 1
        >>> noise = GaussianFieldNoise(std=0.02)
        >>> samples = noise.sample(label, 5, generator=torch.Generator().manual_seed(0))
        >>> samples.shape, samples.dtype
        (torch.Size([5, 64, 64]), torch.uint8)
        >>> marginals = noise.marginals(label)
        >>> round(float(marginals[32, 24]), 3)  # half a voxel inside the border
        0.652

    """

    def __init__(
        self,
        std: float | Sequence[float],
        length_scale: float | Sequence[float] | None = None,
        units: Units = "extent",
        *,
        spacing: Sequence[float] | None = None,
        spatial_dims: int | None = None,
        interpolation: Interpolation = "nearest",
    ) -> None:
        if units not in UNITS:
            raise ValueError(f"units: expected one of {', '.join(UNITS)}, got {units!r}")
        if interpolation not in ("nearest", "linear"):
            raise ValueError(f"interpolation: expected nearest or linear, got {interpolation!r}")
        if spatial_dims is not None:
            spatial_dims = integer("spatial_dims", spatial_dims)
            if not 1 <= spatial_dims <= 3:
                raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {spatial_dims}")
        if units == "mm" and spacing is None:
            raise ValueError('spacing: needed with units="mm"')
        self.std = _numbers("std", std, positive=False)
        if length_scale is None and units == "extent":
            length_scale = DEFAULT_LENGTH_SCALE
        self.length_scale = (
            None if length_scale is None else _numbers("length_scale", length_scale, positive=True)
        )
        self.units: Units = units
        self.spacing = None if spacing is None else _numbers("spacing", spacing, positive=True)
        self.interpolation: Interpolation = interpolation
        lengths = {
            name: len(value)
            for name, value in (
                ("std", self.std),
                ("length_scale", self.length_scale),
                ("spacing", self.spacing),
            )
            if isinstance(value, tuple)
        }
        for name, length in lengths.items():
            spatial_dims = spatial_dims or length
            if length != spatial_dims:
                raise ValueError(f"{name}: expected {spatial_dims} numbers, got {length}")
        self.spatial_dims = spatial_dims

    def __repr__(self) -> str:
        return (
            f"GaussianFieldNoise(std={self.std}, length_scale={self.length_scale}, "
            f"units={self.units!r}, spacing={self.spacing}, spatial_dims={self.spatial_dims}, "
            f"interpolation={self.interpolation!r})"
        )

    def std_in_voxels(self, shape: Sequence[int]) -> tuple[float, ...]:
        """Return a along each axis of a volume of ``shape``, in voxels.

        Example:
            >>> GaussianFieldNoise(std=0.02).std_in_voxels((64, 128))
            (1.28, 2.56)

        """
        return self._in_voxels(self.std, shape)

    def length_scale_in_voxels(self, shape: Sequence[int]) -> tuple[float, ...]:
        """Return b along each axis of a volume of ``shape``, in voxels.

        Raises:
            ValueError: It was not given, and the units are not those of the default.

        """
        if self.length_scale is None:
            raise ValueError(
                f"length_scale: needed with units={self.units!r}; the default is a fraction of the "
                "extent"
            )
        return self._in_voxels(self.length_scale, shape)

    def displacement(
        self,
        shape: Sequence[int],
        n: int | None = None,
        *,
        generator: torch.Generator | int | None = None,
        method: Method = "exact",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw displacements X for a volume of ``shape``.

        Args:
            shape: The 1 to 3 spatial sizes.
            n: How many, >= 0; ``None`` draws one without a leading axis.
            generator: Source of the normals, or the seed of one.
            method: ``"exact"`` or ``"convolution"``, see :func:`marginseg.gaussian_field`.
            dtype: Of the result.
            device: Where; the default is the generator's.

        Returns:
            Tensor of shape (n, dims, *shape), or (dims, *shape), in voxels.

        Example:
            >>> GaussianFieldNoise(std=0.02).displacement((32, 32), n=4).shape
            torch.Size([4, 2, 32, 32])

        """
        if self.spatial_dims is not None and len(shape) != self.spatial_dims:
            raise ValueError(f"shape: expected {self.spatial_dims} sizes, got {tuple(shape)}")
        shape = integers("shape", shape)
        n = None if n is None else integer("n", n)
        if n is not None and n < 0:
            raise ValueError(f"n: expected at least 0, got {n}")
        return gaussian_field(
            shape,
            self.std_in_voxels(shape),
            self.length_scale_in_voxels(shape),
            generator=generator,
            method=method,
            batch_shape=() if n is None else (n,),
            dtype=dtype,
            device=device,
        )

    def sample(
        self,
        label: Array,
        n: int = 1,
        *,
        generator: torch.Generator | int | None = None,
        batch_dims: int = 0,
    ) -> Array:
        """Draw n noisy versions of ``label``.

        Args:
            label: Shape (*leading, *spatial), bool, integer, or whole numbers in a floating dtype;
                multi-label maps are deformed whole. All leading axes (classes, say) of one sample
                are deformed by one field, but for the first ``batch_dims``. A soft label has no
                samples; :func:`marginseg.warp` deforms it as an image.
            n: How many samples, >= 1.
            generator: Source of the normals, or the seed of one; makes the samples reproducible.
            batch_dims: So many leading axes (cases, say) get fields of their own.

        Returns:
            Tensor of shape (n, *label.shape), of the label's dtype; a NumPy array of a NumPy array.

        Raises:
            TypeError: ``label`` is no tensor or array of real numbers.
            ValueError: The label has too few axes, or so many that ``spatial_dims`` is needed; or
                it holds fractions or NaN. On a GPU the host waits to look at a floating one; in a
                compiled function, under vmap and while a CUDA graph is captured it does not look.

        Example:
            >>> import torch
            >>> label = torch.ones(8, 8, 8, dtype=torch.bool)
            >>> GaussianFieldNoise(std=0.1).sample(label, 3, generator=0).shape
            torch.Size([3, 8, 8, 8])

        """
        given, spatial, n, batch_dims = self._checked(label, n, batch_dims)
        numbers = whole("label", given)
        source = seeded(generator, given.device)
        if takes_kernels(spatial, self.length_scale_in_voxels(spatial)):
            samples, _ = self._warped(numbers, n, source, batch_dims)
        else:
            samples = self._deformed(numbers, *self._coefficients(numbers, n, source, batch_dims))
        return like(label, samples.to(given.dtype))

    def sample_folded(
        self,
        label: Array,
        n: int = 1,
        *,
        generator: torch.Generator | int | None = None,
        batch_dims: int = 0,
    ) -> tuple[Array, Array]:
        """Draw n noisy versions of ``label``, and tell how much of the volume each folds over.

        Args:
            label: As for :meth:`sample`, which draws the same samples from the same generator.
            n: How many samples, >= 1.
            generator: Source of the normals, or the seed of one.
            batch_dims: So many leading axes (cases, say) get fields of their own.

        Returns:
            The samples, (n, *label.shape), and of each field the share of voxels where ω + X(ω)
            folds over (:func:`marginseg.folded_share`), float64, (n, *batch).

        Raises:
            TypeError: As for :meth:`sample`.
            ValueError: As for :meth:`sample`.

        Example:
            >>> import torch
            >>> label = torch.ones(8, 8, 8, dtype=torch.bool)
            >>> samples, folded = GaussianFieldNoise(std=0.001).sample_folded(label, 3)
            >>> samples.shape, folded
            (torch.Size([3, 8, 8, 8]), tensor([0., 0., 0.], dtype=torch.float64))

        """
        given, spatial, n, batch_dims = self._checked(label, n, batch_dims)
        numbers = whole("label", given)
        source = seeded(generator, given.device)
        if takes_kernels(spatial, self.length_scale_in_voxels(spatial)):
            samples, field = self._warped(numbers, n, source, batch_dims)
            folded = folded_share(field, spatial_dims=len(spatial))
        else:
            coefficients, factors = self._coefficients(numbers, n, source, batch_dims)
            samples = self._deformed(numbers, coefficients, factors)
            folded = folded_share_from_coefficients(coefficients, factors)
        return like(label, samples.to(given.dtype)), like(label, folded)

    def marginals(self, label: Array, *, classes: Sequence[int] | None = None) -> Array:
        r"""Return the probability of every voxel under the noise (Theorem 1).

        :math:`E\,L = l * N(0, a^2)`, zero outside the domain: the label filtered by the Gaussian,
        integrated over voxels.

        Args:
            label: Shape (*leading, *spatial): bool, 0 and 1 in any dtype, or a soft label in
                [0, 1].
            classes: For a multi-label map, integer or whole numbers in a floating dtype: the labels
                whose marginals are wanted.

        Returns:
            float32 (float64 for a float64 label) of the label's shape, float32 with ``classes``:
            then an axis of their number stands before the spatial axes. A NumPy array of a NumPy
            array.

        Raises:
            TypeError: ``label`` is no tensor or array of real numbers, or ``classes`` are no
                integers.
            ValueError: The label has values outside [0, 1], by more than rounding, and no
                ``classes`` are given; or, with them, fractions; or NaN. On a GPU the host waits to
                look at the values, unless they are bools; in a compiled function, under vmap and
                while a CUDA graph is captured it does not look. Or ``classes`` are empty.

        Example:
            >>> import torch
            >>> label = torch.tensor([0, 0, 2, 2, 1])
            >>> noise = GaussianFieldNoise(std=0.5, units="voxel")
            >>> noise.marginals(label, classes=[1, 2])[:, 3:]
            tensor([[0.1573, 0.6827],
                    [0.8400, 0.1587]])
        """
        given, spatial = self._given(label)
        if classes is not None:
            wanted = integers("classes", classes)
            if not wanted:
                raise ValueError("classes: expected one at least, got none")
            numbers, axis = whole("label", given), given.ndim - len(spatial)
            given = torch.stack([numbers == value for value in wanted], dim=axis)
        soft, std, reverse = self._laid_out(_soft(given), spatial)
        dtype = torch.float64 if soft.dtype is torch.float64 else torch.float32
        filtered = gaussian_filter(
            soft if soft.dtype in BYTE_DTYPES else soft.to(dtype),
            std,
            truncate=TRUNCATE[dtype],
            kernel="integrated",
        )
        return like(label, reverse_axes(filtered, len(spatial)) if reverse else filtered)

    def expected_volume(self, label: Array) -> Array:
        r"""Return :math:`E\|L\| = \|l\| - \xi` (Theorem 2), as a fraction of the domain.

        Exact, without filtering: a voxel's mass stays in the domain with a probability that is a
        product over axes.

        Args:
            label: As for :meth:`marginals`.

        Returns:
            float64 tensor of the leading shape (0-dim for one label); a NumPy array of a NumPy
            array.

        Example:
            >>> import torch
            >>> label = torch.zeros(10, 10); label[:, 0] = 1.0  # on the border
            >>> noise = GaussianFieldNoise(std=1.0, units="voxel")
            >>> round(float(noise.expected_volume(label)), 4)
            0.0639

        """
        given, spatial = self._given(label)
        soft, std, _ = self._laid_out(_soft(given), spatial)
        return like(label, kept_mass(soft, std) / math.prod(spatial))

    def volume_loss(self, label: Array) -> Array:
        r"""Return ξ of Theorem 2: the volume that the noise carries out of the domain.

        Args:
            label: As for :meth:`marginals`.

        Returns:
            float64 tensor of the leading shape (0-dim for one label), a fraction of the domain; a
            NumPy array of a NumPy array.

        Example:
            >>> import torch
            >>> GaussianFieldNoise(std=0.02).volume_loss(torch.zeros(16, 16)).item()
            0.0

        """
        given, spatial = self._given(label)
        soft, std, _ = self._laid_out(_soft(given), spatial)
        # Nothing leaves where nothing moves.
        mass = kept_mass(soft, [0.0] * len(std))
        return like(label, (mass - kept_mass(soft, std)) / math.prod(spatial))

    def _laid_out(
        self, label: Tensor, spatial: tuple[int, ...]
    ) -> tuple[Tensor, tuple[float, ...], bool]:
        """Return the label as it lies in memory, a along its axes, and if they are reversed."""
        std = self.std_in_voxels(spatial)
        label, reverse = as_it_lies(label, len(spatial))
        return label, std[::-1] if reverse else std, reverse

    def _checked(
        self, label: Any, n: int, batch_dims: int
    ) -> tuple[Tensor, tuple[int, ...], int, int]:
        """Return a label, its spatial sizes, and the numbers as Python's, if it can be deformed."""
        given, spatial = self._given(label)
        n, batch_dims = integer("n", n), integer("batch_dims", batch_dims)
        if not 1 <= n < 2**31:
            raise ValueError(f"n: expected at least 1, and less than 2^31, got {n}")
        leading = given.ndim - len(spatial)
        if not 0 <= batch_dims <= leading:
            raise ValueError(f"batch_dims: expected 0 to {leading}, got {batch_dims}")
        return given, spatial, n, batch_dims

    def _warped(
        self, label: Tensor, n: int, generator: torch.Generator | None, batch_dims: int
    ) -> tuple[Tensor, Tensor]:
        """Return n noisy versions of a label, and their displacements, which are in memory."""
        spatial = self._spatial_shape(label)
        field = gaussian_field(
            spatial,
            self.std_in_voxels(spatial),
            self.length_scale_in_voxels(spatial),
            generator=generator,
            batch_shape=(n, *label.shape[:batch_dims]),
            device=label.device,
        )
        samples = warp(
            label.expand(n, *label.shape),
            field,
            interpolation=self.interpolation,
            spatial_dims=len(spatial),
        )
        return samples, field

    def _coefficients(
        self, label: Tensor, n: int, generator: torch.Generator | None, batch_dims: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Draw the fields of n noisy versions of a label, and return what they are made of."""
        spatial = self._spatial_shape(label)
        return draw_coefficients(
            spatial,
            self.std_in_voxels(spatial),
            self.length_scale_in_voxels(spatial),
            generator=generator,
            batch_shape=(n, *label.shape[:batch_dims]),
            dtype=torch.float32,
            device=label.device,
        )

    def _deformed(self, label: Tensor, coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
        n = len(factors)
        label, reverse = as_it_lies(label, n)
        if reverse:
            # The components of the field come in the reverse order too, as the axes of each.
            coefficients = reverse_axes(coefficients.flip(-n - 1), n).contiguous()
            factors = factors[::-1]
        samples = sample(label, coefficients, factors, interpolation=self.interpolation)
        return reverse_axes(samples, n) if reverse else samples

    def _in_voxels(
        self, lengths: float | tuple[float, ...], shape: Sequence[int]
    ) -> tuple[float, ...]:
        n = len(shape)
        values = lengths if isinstance(lengths, tuple) else (lengths,) * n
        if self.units == "extent":
            return tuple(value * size for value, size in zip(values, shape, strict=True))
        if self.units == "mm" and self.spacing is not None:
            spacing = self.spacing if isinstance(self.spacing, tuple) else (self.spacing,) * n
            return tuple(value / step for value, step in zip(values, spacing, strict=True))
        return tuple(values)

    def _given(self, label: Any) -> tuple[Tensor, tuple[int, ...]]:
        """Return a label of real numbers as a tensor, and its spatial sizes."""
        given = as_tensor("label", label)
        if given.dtype not in (*FLOATING_DTYPES, *LABEL_DTYPES, *WIDER):
            expected = listed((*FLOATING_DTYPES, *LABEL_DTYPES, *WIDER))
            raise TypeError(f"label: expected {expected}, got {given.dtype}")
        return given, self._spatial_shape(given)

    def _spatial_shape(self, label: Tensor) -> tuple[int, ...]:
        n = self.spatial_dims or spatial_axes(label.shape)
        if not 1 <= n <= label.ndim:
            raise ValueError(f"label: expected {max(n, 1)} spatial axes, got {tuple(label.shape)}")
        spatial = tuple(label.shape[label.ndim - n :])
        if 0 in spatial:
            raise ValueError(f"label: expected a volume, got shape {tuple(label.shape)}")
        return spatial


def _soft(label: Tensor) -> Tensor:
    """Return a label of 0 and 1, or what lies between, of a dtype that kernels take."""
    checked = within_unit("label", label, hint="; name the classes of a multi-label map")
    return checked.to(WIDER.get(label.dtype, label.dtype))


def _numbers(name: str, value: Any, *, positive: bool) -> float | tuple[float, ...]:
    given = numbers(name, value)
    several = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(several) <= 3:
        raise ValueError(f"{name}: expected one number or up to three, got {len(several)}")
    if not all(0 <= v < math.inf and (v > 0 or not positive) for v in several):
        bound = "> 0" if positive else ">= 0"
        raise ValueError(f"{name}: expected finite numbers {bound}, got {value}")
    return given
