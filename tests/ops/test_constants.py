"""What is remembered on a device: when, for how long, and for whom."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from marginseg import GaussianFieldNoise, gaussian_field
from marginseg.ops import gaussian_field as module
from marginseg.ops.constants import Constants, numbered


class Maker:
    """Makes a tensor that holds its argument, and counts how often."""

    def __init__(self):
        self.made = []

    def __call__(self, device, value):
        self.made.append((device, value))
        return (torch.full((2,), float(value), device=device),)


class Gpu:
    """Stands in for CUDA's streams: the devices of tensors are then only names."""

    def __init__(self, monkeypatch):
        self.stream, self.capturing, self.number = "first", False, 0
        self.recorded = []
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.stream)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.number)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda tensor, stream: self.recorded.append(stream)
        )


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


@pytest.fixture
def maker():
    return Maker()


def on_gpu(maker):
    """Let the tensors lie on the CPU, whatever device is named."""
    return Constants(lambda device, value: maker(torch.device("cpu"), value), most=2)


CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_made_once_and_the_last_ones_remembered(maker):
    constants = Constants(maker, most=2)
    for value in (1, 2, 1, 3, 1, 2):
        assert constants(CPU, value)[0].tolist() == [value, value]
    assert [value for _, value in maker.made] == [1, 2, 3, 2]


def test_no_more_bytes_are_remembered_than_asked_for(maker):
    constants = Constants(maker, most_bytes=20)  # each has 8
    for value in (1, 2, 1, 3, 2, 1):
        constants(CPU, value)
    assert [value for _, value in maker.made] == [1, 2, 3, 2, 1]
    large = Constants(maker, most_bytes=4)
    assert large(CPU, 7)[0] is large(CPU, 7)[0]  # the last one always


@pytest.mark.parametrize(
    "context", [lambda: torch.device("cpu"), torch.inference_mode, torch.no_grad]
)
def test_a_default_device_and_inference_mode_are_no_reason_to_forget(maker, context):
    constants = Constants(maker)
    with context():
        (first,) = constants(CPU, 1)
        (second,) = constants(CPU, 1)
    assert first is second
    assert not first.is_inference()
    weight = torch.ones(2, requires_grad=True)
    (weight * constants(CPU, 1)[0]).sum().backward()  # of an inference tensor this is an error
    assert len(maker.made) == 1


def test_fakes_and_transforms_get_their_own(maker):
    constants = Constants(maker)
    real = constants(CPU, 1)[0]
    with FakeTensorMode():
        fake = constants(CPU, 1)[0]
    torch.func.grad(lambda x: (x * constants(CPU, 1)[0]).sum())(torch.ones(2))
    assert fake is not real
    assert len(maker.made) == 3
    assert constants(CPU, 1)[0] is real


def test_the_field_looks_up_its_factors_under_a_default_device():
    noise = GaussianFieldNoise(std=0.1, spatial_dims=2)
    shape = (6, 7)
    label = torch.ones(shape, dtype=torch.bool)
    for context in (torch.device("cpu"), torch.inference_mode()):
        with context:
            noise.sample(label)
            before = dict(module._constants._entries)
            noise.sample(label)
            gaussian_field(shape, noise.std_in_voxels(shape), noise.length_scale_in_voxels(shape))
        after = dict(module._constants._entries)
        assert before.keys() == after.keys()
        assert all(before[key] is after[key] for key in before)


def test_what_a_graph_reads_is_never_dropped(gpu, maker):
    constants = on_gpu(maker)
    constants(GPU, 1)
    gpu.capturing = True
    (captured,) = constants(GPU, 1)
    gpu.capturing = False
    for value in range(2, 12):
        constants(GPU, value)
    gpu.capturing = True
    assert constants(GPU, 1)[0] is captured
    assert [value for _, value in maker.made].count(1) == 1


def test_the_allocator_is_told_of_each_stream_that_reads(gpu, maker):
    constants = on_gpu(maker)
    constants(GPU, 1)
    gpu.stream = "second"
    constants(GPU, 1)
    constants(GPU, 1)
    assert gpu.recorded == ["first", "second"]


def test_the_current_gpu_is_meant_by_its_number(gpu, maker):
    constants = on_gpu(maker)
    assert numbered(torch.device("cuda")) == torch.device("cuda", 0)
    (of_the_first,) = constants(torch.device("cuda"), 1)
    assert constants(GPU, 1)[0] is of_the_first
    gpu.number = 1
    assert constants(torch.device("cuda"), 1)[0] is not of_the_first
