"""What all CUDA kernels have in common: how they are built, called and captured."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from marginseg import (
    GaussianFieldNoise,
    _cpu,
    cross_entropy,
    cut,
    dice,
    dice_curve,
    dice_threshold,
    expected_calibration_error,
    folded_share,
    gaussian_field,
    gaussian_filter,
    optimal_segmentation,
    optimal_threshold,
    segment_dice_threshold,
    soft_dice,
    volume_bias,
    warp,
)
from marginseg.ops import boundary
from marginseg.ops.gaussian_field import draw_coefficients
from marginseg.ops.sample import sample

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


@pytest.fixture(scope="module")
def module():
    if importlib.util.find_spec("marginseg._cuda") is None:
        assert shutil.which("nvcc") is None, "nvcc is here, but the CUDA kernels were not built"
        pytest.skip("nvcc is not here, so the CUDA kernels were not built")
    return importlib.import_module("marginseg._cuda")


@pytest.fixture(scope="module")
def cuobjdump():
    found = [
        Path(entry) / "nvidia" / "cu13" / "bin" / "cuobjdump"
        for entry in sys.path
        if (Path(entry) / "nvidia" / "cu13" / "bin" / "cuobjdump").is_file()
    ]
    path = shutil.which("cuobjdump") or (str(found[0]) if found else None)
    if path is None:
        pytest.skip("cuobjdump is not here: pip install nvidia-cuda-cuobjdump")

    def run(*arguments):
        command = [path, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


def test_holds_machine_code_of_two_generations_and_ptx_for_those_to_come(module, cuobjdump):
    listed = cuobjdump("--list-elf", "--list-ptx", module.__file__)
    built = set(re.findall(r"\.sm_(\d+)a?\.cubin", listed))
    if torch.cuda.is_available():
        # bench/gpu.sh builds for the device at hand alone.
        assert built
    else:
        assert built >= {"80", "90"}
        assert "90" in re.findall(r"\.sm_(\d+)\.ptx", listed)


def test_no_kernel_spills_registers(module, cuobjdump):
    usage = cuobjdump("--dump-resource-usage", module.__file__)
    functions = re.findall(r"Function (\S+):\n\s*REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    assert len(functions) > 50
    # CUB's own kernels are its own affair.
    ours = [found for found in functions if "3cub" not in found[0]]
    spilling = [name for name, _, stack, local in ours if int(stack) or int(local)]
    assert not spilling, spilling


def test_has_the_functions_of_the_cpu_core(module):
    def functions(core):
        return {name for name in vars(core) if not name.startswith("__") and name != "version"}

    of_cpu_only = {"instruction_set", "set_parallel_for", "Tally"}
    assert functions(module) == functions(_cpu) - of_cpu_only
    assert module.version == _cpu.version


def test_an_error_of_cuda_names_the_op(module):
    # The offsets' check begins with writing a zero to where an allocator says.
    with pytest.raises(RuntimeError, match="^dice_threshold: CUDA error cuda[A-Z]"):
        module.dice_threshold(0, 0, 1, 1, 1, False, 1.0, 0, 0, 0, 0, False, lambda size: 0)


def test_without_kernels_it_says_how_to_build_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "marginseg._cuda", None)
    monkeypatch.delitem(boundary.cores, "cuda", raising=False)
    with pytest.raises(RuntimeError, match=r"MARGINSEG_CUDA=ON"):
        boundary._loaded("cuda")
    with pytest.raises(RuntimeError, match="meta"):
        boundary._loaded("meta")


@pytest.mark.parametrize("device", ["cuda"])
def test_a_parameter_named_device_is_no_fixture(device):
    """Only the fixture of that name decides where a test makes its tensors."""
    assert device == "cuda"
    assert torch.rand(3, generator=torch.Generator()).is_cpu


def test_a_kernel_runs_while_its_device_is_current(monkeypatch):
    """And torch, which knows where it has contexts, puts back the one before."""
    current = [0]

    @contextmanager
    def made_current(index):
        current.append(index)
        yield
        current.pop()

    stream = SimpleNamespace(device_index=1, cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "current_stream", {torch.device("cuda:1"): stream}.get)
    calls = []

    def kernel(*arguments):
        calls.append((current[-1], *arguments[:3]))

    boundary.on_stream(kernel, torch.device("cuda:1"), 5)
    assert calls == [(1, 5, 77, False)]
    assert current == [0]


def test_mixed_devices_are_refused():
    here, elsewhere = torch.zeros(4, 4), torch.zeros(2, 4, 4, device="meta")
    with pytest.raises(ValueError, match="^displacement: .*meta"):
        warp(here, elsewhere)
    with pytest.raises(ValueError, match="^factors: .*cpu, got meta"):
        boundary.core_of(here, factors=elsewhere)


@contextmanager
def _cpu_kernels():
    used = boundary.cores["cpu"]
    boundary.cores["cpu"] = boundary.Core(_cpu, boundary.here, half=False)
    try:
        yield
    finally:
        boundary.cores["cpu"] = used


def test_same_labels_as_on_the_cpu(device):
    """From the same coefficients; only a position within a rounding of ½ may go either way."""
    noise = GaussianFieldNoise(std=0.05, spatial_dims=3)
    shape = (24, 40, 72)
    grids = torch.meshgrid(*[torch.linspace(-1, 1, size) for size in shape], indexing="ij")
    label = sum(grid.square() for grid in grids).lt(0.6).to(torch.uint8)
    scale = noise.length_scale_in_voxels(shape)
    std = noise.std_in_voxels(shape)

    def draw(where, interpolation, coefficients):
        scaled, factors = draw_coefficients(
            shape,
            std,
            scale,
            generator=None,
            batch_shape=(3,),
            dtype=torch.float32,
            device=where,
            coefficients=coefficients,
        )
        return sample(label.to(where), scaled, factors, interpolation=interpolation)

    generator = torch.Generator().manual_seed(0)
    ranks = [factor.shape[1] for factor in _factors(shape, scale)]
    coefficients = torch.randn((3, 3, *ranks), generator=generator, device="cpu")
    for interpolation in ("nearest", "linear"):
        there = draw(device, interpolation, coefficients).cpu()
        with _cpu_kernels():
            here = draw("cpu", interpolation, coefficients)
        assert here.float().mean() > 0.05
        assert int((there != here).sum()) <= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_same_threshold_as_on_the_cpu(device, dtype):
    """To the last bit: sums have some 106."""
    generator = torch.Generator().manual_seed(4)
    uniform = torch.rand((5, 9_000), generator=generator, dtype=torch.float64, device="cpu")
    powers = torch.tensor([0.2, 1.0, 3.0, 9.0, 40.0], dtype=torch.float64, device="cpu")
    maps = uniform.pow(powers[:, None]).to(dtype)
    offsets = torch.tensor([0, 7, 12_000, 12_000, 45_000])
    for method, beta in (("iterate", 1.0), ("sort", 1.0), ("iterate", 0.3), ("sort", 2.0)):
        options = {"method": method, "beta": beta}
        there = (
            *dice_threshold(maps.to(device), spatial_dims=1, **options),
            *segment_dice_threshold(maps.flatten().to(device), offsets.to(device), **options),
        )
        with _cpu_kernels():
            here = (
                *dice_threshold(maps, spatial_dims=1, **options),
                *segment_dice_threshold(maps.flatten(), offsets.cpu(), **options),
            )
        for a, b in zip(there, here, strict=True):
            assert torch.equal(a.cpu(), b)


def _factors(shape, scale):
    from marginseg.ops.axis_factor import TOLERANCE, axis_factor

    return [
        axis_factor(size, length, TOLERANCE[torch.float32])
        for size, length in zip(shape, scale, strict=True)
    ]


def _calls(device):
    """One call of each op, with inputs that stay where they are."""
    generator = torch.Generator(device).manual_seed(1)
    shape = (20, 24, 40)
    image = torch.rand(2, *shape, device=device, generator=generator)
    label = image > 0.7
    field = torch.randn(2, 3, *shape, device=device, generator=generator)
    noise = GaussianFieldNoise(std=0.03, spatial_dims=3)
    return {
        "gaussian_filter": lambda: gaussian_filter(image, (1.0, 2.0, 1.5)),
        "marginals": lambda: noise.marginals(label),
        "warp": lambda: warp(image, field, spatial_dims=3),
        "dice_threshold": lambda: dice_threshold(image, spatial_dims=3).threshold,
        "sorted": lambda: dice_threshold(image, spatial_dims=3, method="sort").dice,
        "gaussian_field": lambda: gaussian_field(shape, 1.0, 6.0, device=device),
        "sample": lambda: noise.sample(label, 2),
    }


# Each of them reads a tensor on the host, which on a GPU waits for the device.
READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")


@pytest.fixture
def reads(monkeypatch):
    counted = []
    within = []
    for name in READING:
        really = getattr(torch.Tensor, name)

        def read(tensor, *arguments, really=really, **options):
            # Under a default device torch looks the method up once more, by its name, and a read
            # may be made of others: what counts is what the op itself asks for.
            if within:
                return really(tensor, *arguments, **options)
            counted.append(really)
            within.append(really)
            try:
                return really(tensor, *arguments, **options)
            finally:
                within.pop()

        monkeypatch.setattr(torch.Tensor, name, read)
    return counted


def test_no_op_reads_a_tensor_on_the_host(device, reads):
    """What only queues its work on a GPU: docs/guides/gpu.md names them."""
    values, noise = torch.rand(1, 9, device=device), GaussianFieldNoise(std=0.1)
    calls = _calls(device) | {
        "dice_curve": lambda: dice_curve(values),
        "cut": lambda: cut(values, dice_threshold(values, spatial_dims=1).threshold),
        "displacement": lambda: noise.displacement((4, 5), device=device),
        "marginals of classes": lambda: noise.marginals(values > 0.5, classes=[0, 1]),
    }
    for name, call in calls.items():
        call()
        reads.clear()
        call()
        assert not reads, name


def test_what_refuses_values_reads_once(device, reads):
    label = torch.ones(4, 4, dtype=torch.uint8, device=device)
    noise = GaussianFieldNoise(std=0.1)
    for call in (
        lambda: optimal_threshold(label.float()),
        lambda: optimal_segmentation(label.float(), spatial_dims=1),
        lambda: noise.marginals(label),
        lambda: noise.expected_volume(label),
    ):
        reads.clear()
        call()
        assert len(reads) == 1


@on_gpu
@pytest.mark.parametrize("name", list(_calls(torch.device("cpu"))))
def test_every_op_can_be_captured_in_a_graph(name):
    call = _calls(torch.device("cuda"))[name]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    drawn = name in ("gaussian_field", "sample")
    results = []
    for _ in range(2):
        torch.cuda.manual_seed(3)
        graph.replay()
        results.append(result.clone())
    assert torch.equal(*results)
    if drawn:
        graph.replay()
        assert not torch.equal(result, results[0])  # each replay draws anew
    else:
        assert torch.equal(result, call())


@on_gpu
def test_another_stream_than_the_default():
    calls = _calls(torch.device("cuda"))
    expected = calls["gaussian_filter"]()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        result = calls["gaussian_filter"]()
    stream.synchronize()
    assert torch.equal(result, expected)


@on_gpu
def test_a_large_batch_needs_64_bits():
    # 2^31 + some voxels: an index of 32 bits would wrap.
    volume = torch.zeros(2**10, 2**11, 2**10 + 64, dtype=torch.uint8, device="cuda")
    volume[-1, -1, -40:] = 1
    filtered = gaussian_filter(volume, (0.0, 0.0, 1.0))
    row = gaussian_filter(volume[-1, -1], 1.0)
    assert torch.equal(filtered[-1, -1], row)
    assert math.isclose(float(filtered.sum(dtype=torch.float64)), float(row.sum()), rel_tol=1e-6)


@on_gpu
def test_what_stands_on_the_ops_gives_the_same_on_both_devices():
    generator = torch.Generator().manual_seed(2)
    label = torch.zeros(24, 28, 32, dtype=torch.uint8)
    label[4:20, 6:22, 8:30] = 1
    noise = GaussianFieldNoise(std=(0.05, 0.04, 0.03), spatial_dims=3)
    field = noise.displacement(label.shape, 2, generator=generator)
    marginals = noise.marginals(label)
    prediction = torch.rand(label.shape, generator=generator).clamp(1e-3, 1 - 1e-3)

    def on(device):
        here = label.to(device)
        segmentation = optimal_segmentation(marginals.to(device))
        forecast = prediction.to(device)
        return {
            "expected volume": noise.expected_volume(here),
            "volume loss": noise.volume_loss(here),
            "marginals": noise.marginals(here),
            "of classes": noise.marginals(here, classes=[0, 1]),
            "folds": folded_share(field.to(device)),
            "threshold": optimal_threshold(marginals.to(device)),
            "segmentation": segmentation,
            "cross-entropy": cross_entropy(forecast, here, logits=False),
            "soft Dice": soft_dice(forecast, here, logits=False),
            "Dice": dice(segmentation, here),
            "bias": volume_bias(segmentation, here),
            "calibration": expected_calibration_error(forecast, here),
        }

    there = on("cuda")
    for name, value in on("cpu").items():
        assert there[name].is_cuda, name
        torch.testing.assert_close(there[name].cpu(), value, rtol=1e-6, atol=1e-6)
