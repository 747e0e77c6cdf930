"""What is counted of the kernels' machine code, and that it gives what the emulated kernels give.

GCC has compiled those from the same sources.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.machine_code import counting, estimate, memory, table
from bench.machine_code.counting import chosen_blocks
from bench.machine_code.estimate import CARDS, KernelCost
from bench.machine_code.execution import Launch, Program
from bench.machine_code.listing import Code, Kernel, MissingToolError, tool, without_anonymous
from bench.machine_code.recording import Recorder, module_path
from bench.machine_code.warps import Traffic
from marginseg import GaussianFieldNoise, dice_threshold, gaussian_field, gaussian_filter, warp
from marginseg.ops.assign_labels import assign_labels
from programs import assemble

# What is counted.


def test_sectors_lines_and_wavefronts():
    lanes = np.arange(32)
    warps = np.zeros(32, np.int64)
    base = 1 << 20
    for step, width, sectors, lines, wavefronts in (
        (4, 4, 4, 1, 1),  # a row
        (0, 4, 1, 1, 1),  # one word for all
        (8, 4, 8, 2, 2),  # every second word: two banks in turn
        (128, 4, 32, 32, 32),  # a column, of one bank
        (132, 4, 32, 32, 1),  # the same with an odd stride, which leaves out a line
        (16, 16, 16, 4, 4),  # vectors: 512 bytes
        (0, 16, 1, 4, 4),  # one vector for all: 512 bytes of registers are written all the same
        (1, 1, 1, 1, 1),
    ):
        places = base + lanes * step
        assert memory.sectors(warps, places) == sectors
        assert memory.lines(warps, lanes, places, width) == lines
        assert memory.wavefronts(warps, lanes, lanes * step, width) == wavefronts
    both = np.concatenate([warps, warps + 1])
    assert memory.sectors(both, np.tile(base + lanes * 4, 2)) == 8


def test_blocks_are_spread_and_neighbours():
    plain = assemble("EXIT")
    assert chosen_blocks(plain, 5) == ([0, 1, 2, 3, 4], 5)
    told = assemble("ATOMG.E.ADD.STRONG.GPU PT, R0, desc[UR4][R2.64], R1", "EXIT")
    assert chosen_blocks(told, 500) == (list(range(500)), 500)
    blocks, run_length = chosen_blocks(plain, 100_000)
    assert len(set(blocks)) == counting.RUNS * counting.RUN
    assert run_length == counting.RUN
    runs = np.array(blocks).reshape(-1, run_length)
    assert (np.diff(runs, axis=1) == 1).all()
    parts = runs[:, 0] // (100_000 / counting.RUNS)
    assert parts.astype(int).tolist() == list(range(counting.RUNS))


def _cost(*lines, blocks, registers=32, shared=1024, threads=256):
    kernel = assemble(*lines)
    kernel = Kernel("by_hand", kernel.instructions, registers, shared)
    execution = Program(kernel).run(Launch("by_hand", blocks, threads, b""), [0])
    return KernelCost(execution, 1, blocks)


def test_time_by_issue_and_by_pipe():
    card = CARDS[0]
    cost = _cost(*["FADD R0, R1, R2"] * 99, "EXIT", blocks=132 * 10)
    # 100 instructions of 8 warps and 10 blocks on 4 schedulers.
    assert cost.issue_seconds(card) == pytest.approx(100 * 8 * 10 / 4 / 1.755e9)
    slow = _cost(*["F2I R0, R1"] * 99, "EXIT", blocks=132 * 10)
    seconds, pipe = slow.pipe_seconds(card)
    assert (seconds, pipe) == (pytest.approx(99 * 8 * 10 * 2 / 1.755e9), "conversion")
    assert slow.execution_seconds(card) == pytest.approx(seconds / estimate.REACHED)
    # One block more than there are multiprocessors takes as long as twice as many.
    few = [_cost("FADD R0, R1, R2", "EXIT", blocks=n).issue_seconds(card) for n in (132, 133, 264)]
    assert few[1] == pytest.approx(few[2])
    assert few[1] == pytest.approx(2 * few[0])
    # Integer multiply-adds go through the pipes of the floats, of which they take half.
    ffma, imad = "FFMA R0, R1, R2, R3", "IMAD R0, R1, R2, R3"
    for lines, clocks in (((ffma, ffma, ffma, imad), 8), ((ffma, imad, imad, imad), 12)):
        mixed = _cost(*lines, "EXIT", blocks=132)
        assert mixed.pipe_seconds(card)[0] == pytest.approx(clocks / 1.755e9)


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "blocks"),
    [(32, 1024, 256, 8), (33, 1024, 256, 6), (48, 42496, 256, 5), (255, 1024, 256, 1),
     (16, 1024, 32, 32)],
)  # fmt: skip
def test_occupancy(registers, shared, threads, blocks):
    cost = _cost("EXIT", blocks=1, registers=registers, shared=shared, threads=threads)
    assert cost.resident_blocks == blocks
    assert cost.occupancy == blocks * threads / 2048


def test_bytes_of_neighbours_count_once():
    cost = _cost("EXIT", blocks=40)
    keys = [block << 48 | sector for block in range(4) for sector in (block, block + 1)]
    cost.execution.traffic = Traffic(touched=[np.array(keys)])
    cost.execution.blocks = 4
    assert KernelCost(cost.execution, 1, 40).bytes == 8 * 32 * 10
    assert KernelCost(cost.execution, 4, 40).bytes == 5 * 32 * 10


def test_names():
    of_gcc = "_ZN9marginseg4warp12_GLOBAL__N_111warp_voxelsILi3EfhEEvPKT0_"
    of_nvcc = (
        "_ZN9marginseg4warp39_GLOBAL__N__6d9b3c6e_7_cuda_cu_fafd444211warp_voxelsILi3EfhEEvPKT0_"
    )
    assert without_anonymous(of_gcc) == without_anonymous(of_nvcc)
    assert table.short_name(of_nvcc) == "warp_voxels<3, float, uint8>"
    assert table.short_name("_ZN9marginseg3cut5countENS0_4MapsE") == "count"


def test_tables_are_written_between_their_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write("new", path)
    assert path.read_text() == f"before\n{table.BEGIN}\n\nnew\n{table.END}\nafter\n"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no lines"):
        table.write("new", path)


# The kernels of the package.


@pytest.fixture(scope="module")
def code():
    try:
        tool("nvdisasm"), tool("cuobjdump")
        return Code([module_path("_cuda")])
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def recorder():
    try:
        return Recorder()
    except MissingToolError as error:
        pytest.skip(str(error))


SHAPE = (11, 20, 36)


def _ops():
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(SHAPE, generator=draw)
    label = (image > 0.6).to(torch.uint8)
    field = 3 * torch.randn(3, *SHAPE, generator=draw)
    noise = GaussianFieldNoise(std=0.05, spatial_dims=3)
    values = torch.rand(2, 17, 24, 24, generator=draw).square()
    gains = torch.rand(2, 17, generator=draw)
    return {
        "gaussian_filter": lambda: gaussian_filter(image, 2.0),
        "gaussian_filter, reflect": lambda: gaussian_filter(image, (1.0, 2.0, 0.5), mode="reflect"),
        "gaussian_filter, float16": lambda: gaussian_filter(image.half(), 1.0),
        "gaussian_filter, bfloat16": lambda: gaussian_filter(image.bfloat16(), 1.0),
        "gaussian_filter, float64": lambda: gaussian_filter(image.double(), 1.0),
        "gaussian_filter, wide": lambda: gaussian_filter(image, (1.0, 5.0, 6.0)),
        "gaussian_filter, odd": lambda: gaussian_filter(image[..., :-1].contiguous(), 1.0),
        "marginals": lambda: noise.marginals(label > 0),
        "warp": lambda: warp(image, field),
        "warp, mirror, float64": lambda: warp(image.double(), field.double(), mode="mirror"),
        "warp, nearest": lambda: warp(label, field, interpolation="nearest"),
        "warp, labels": lambda: warp(label, field, interpolation="linear"),
        "gaussian_field": lambda: gaussian_field(SHAPE, 1.0, 6.0),
        "sample": lambda: noise.sample(label),
        "dice_threshold": lambda: dice_threshold(values, spatial_dims=3),
        "dice_threshold, float16": lambda: dice_threshold(values.half(), spatial_dims=3),
        "dice_threshold, sort": lambda: dice_threshold(
            values[:, :4, :4], spatial_dims=3, method="sort"
        ),
        "assign_labels": lambda: assign_labels(values.flatten(2), gains, 0.4 * gains),
        "warp, gradients": lambda: gradients(image, field),
    }


def gradients(image, field):
    """Those whose sums do not depend on the order in which threads add to them."""
    inputs = image.clone().requires_grad_(), field.clone().requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        return torch.autograd.grad(warp(*inputs).square().sum(), inputs)
    finally:
        torch.use_deterministic_algorithms(False)


#: What these write depends on the order in which threads come.
UNORDERED = ("survey_maps",)


#: These show most of what the others show, and are tried at each change.
ORDINARY = ("gaussian_filter", "dice_threshold", "warp")


@pytest.mark.parametrize(
    "name",
    [name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow) for name in _ops()],
)
def test_the_machine_code_gives_what_the_emulated_kernel_gives(name, code, recorder):
    executions = []

    def before(launch):
        kernel = code.kernel(launch.kernel)
        blocks, _ = chosen_blocks(kernel, launch.blocks)
        executions.append(Program(kernel).run(launch, blocks))
        return True

    def after(launch):
        execution = executions[-1]
        written, different = execution.memory.differences()
        assert written > 0
        if not any(kernel in launch.kernel for kernel in UNORDERED):
            assert different == 0, launch.kernel

    with recorder.recording(before, after):
        _ops()[name]()
    assert executions


def test_an_op_is_counted_and_put_into_the_tables(code, recorder):
    from bench.case import Size

    counter = counting.Counter(code)
    single = list(counter.ops(Size(16), "σ 1"))
    batch = list(counter.ops(Size(16, 8), "σ 1"))
    for ours, theirs in zip(single[0].launches, batch[0].launches, strict=True):
        assert theirs.blocks == 8 * ours.blocks
        assert theirs.instructions == pytest.approx(8 * ours.instructions, rel=0.05)
    # It can't move less than the volume, read and written by each launch.
    assert sum(launch.bytes for launch in single[0].launches) >= single[0].moved_bytes
    text = table.markdown([*single, *batch])
    assert text.count("| gaussian_filter, float32, σ 1 |") == 2 + len(single[0].launches)
    for line in text.splitlines():
        assert not line or line.startswith("|")
