"""Each kernel once, on small volumes of awkward sizes: what memory and race checkers watch."""

from __future__ import annotations

import torch

from marginseg import (
    GaussianFieldNoise,
    dice_curve,
    dice_threshold,
    gaussian_field,
    gaussian_filter,
    optimal_labels,
    segment_dice_threshold,
    warp,
)


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_device(device)
    for shape in ((67,), (13, 37), (5, 18, 67), (6, 33, 64)):
        n = len(shape)
        image = torch.rand(2, *shape)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            gaussian_filter(image.to(dtype), (1.3,) * n)
            for axis in range(n):
                sigma = [0.0] * n
                sigma[axis] = 9.0
                gaussian_filter(image.to(dtype), sigma, mode="reflect")
            for method in ("iterate", "sort"):
                dice_threshold(image.to(dtype), spatial_dims=n, method=method)
        label = (image > 0.6).to(torch.uint8)
        gaussian_filter(label, (1.3,) * n, kernel="integrated")
        leaf = image.clone().requires_grad_()
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            field = (2.0 * torch.randn(2, n, *shape)).requires_grad_()
            moved = warp(leaf, field, spatial_dims=n)
            first = torch.autograd.grad(moved.square().sum(), (leaf, field), create_graph=True)
            torch.autograd.grad([g.square().sum() for g in first], (leaf, field))
        torch.use_deterministic_algorithms(False)
        gaussian_filter(leaf, (1.0,) * n, mode="wrap").square().sum().backward()
        for interpolation in ("nearest", "linear"):
            warp(label, field.detach(), interpolation=interpolation, spatial_dims=n)
            for length_scale in (0.2, 0.01):
                noise = GaussianFieldNoise(
                    std=0.05,
                    length_scale=length_scale,
                    spatial_dims=n,
                    interpolation=interpolation,
                )
                noise.sample_folded(label, 2, batch_dims=1)
        gaussian_field(shape, 1.0, 5.0, batch_shape=(2,), device=device)
        dice_curve(image, spatial_dims=n)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            optimal_labels(torch.softmax(5 * torch.rand(2, 3, *shape), 1).to(dtype), spatial_dims=n)
            optimal_labels(torch.rand(300, 40).to(dtype), background=None)
    ragged = torch.tensor([0, 0, 5, 40_000, 40_001, 100_000])
    segment_dice_threshold(torch.rand(100_000), ragged)
    segment_dice_threshold(torch.rand(100_000), ragged, method="sort")
    dice_threshold(torch.rand(3, 70_000), spatial_dims=1)
    if device == "cuda":
        torch.cuda.synchronize()
    print("every kernel ran")


if __name__ == "__main__":
    main()
