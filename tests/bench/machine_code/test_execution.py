"""Machine code executed on the CPU: single instructions, threads that part and meet, memory."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench.machine_code.exact import double_multiply_add, single_multiply_add
from bench.machine_code.execution import Launch, Program
from bench.machine_code.listing import instruction
from bench.machine_code.memory import GlobalMemory, MemoryFaultError
from bench.machine_code.operations import step_of
from bench.machine_code.warps import UnsupportedError, Warps
from programs import assemble, run


def registers_after(text, registers=(), predicates=(), encoding=0):
    """Carry out one instruction, of one warp with the same registers in all threads."""
    warps = Warps(np.zeros(1, np.int64), 32, 1, b"", {}, GlobalMemory(), 1024)
    for number, value in dict(registers).items():
        warps.registers[number] = value & 0xFFFFFFFF
    for number, value in dict(predicates).items():
        warps.predicates[number] = value
    with np.errstate(all="ignore"):
        step_of(instruction(0, text, encoding))(warps, np.ones(32, bool))
    return warps.registers[:, 5], warps.predicates[:, 5]


def bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("IADD3 R0, R1, -R2, 0x5", {1: 7, 2: 9}, 3),
        ("IMAD R0, R1, R2, -R3", {1: -3, 2: 5, 3: 1}, -16),
        ("IMAD.HI.U32 R0, R1, R2, R4", {1: 1 << 31, 2: 6, 4: 0, 5: 10}, 13),
        ("IMAD.HI R0, R1, R2, RZ", {1: -(1 << 30), 2: 8}, -2),
        ("LEA R0, R1, R2, 0x3", {1: 5, 2: 100}, 140),
        ("LEA.HI R0, R1, R2, R3, 0x4", {1: 0xF0000000, 3: 1, 2: 100}, 100 + 0x1F),
        ("LEA.HI.X.SX32 R0, R1, R2, 0x2, P0", {1: -1, 2: 100}, 99),
        ("SHF.R.S32.HI R0, RZ, 0x1f, R1", {1: -5}, -1),
        ("SHF.R.U32.HI R0, RZ, 0x4, R1", {1: 0xF0000000}, 0x0F000000),
        ("SHF.L.U32 R0, R1, 0x20, RZ", {1: 77}, 0),
        ("SHF.L.U64.HI R0, R1, 0x4, R2", {1: 0xA0000000, 2: 1}, 0x1A),
        ("SHF.R.U64 R0, R1, 0x24, R2", {1: 0, 2: 0xAB0}, 0xAB),
        ("LOP3.LUT R0, R1, R2, R3, 0xe2, !PT", {1: 12, 2: 10, 3: 5}, (12 & 10) | (5 & ~10)),
        ("PRMT R0, R1, 0x7632, R2", {1: 0x44332211, 2: 0x88776655}, 0x88774433),
        ("PRMT R0, R1, 0x8880, RZ", {1: 0x80}, 0xFFFFFF80),
        ("IABS R0, R1", {1: -9}, 9),
        ("VIADDMNMX R0, R1, R2, 0x3, PT", {1: -9, 2: 2}, -7),
        ("VIADDMNMX.U32 R0, R1, R2, 0x3, PT", {1: -9, 2: 2}, 3),
        ("VIMNMX R0, R1, 0x3, !PT", {1: -9}, 3),
        ("POPC R0, R1", {1: 0xF0F}, 8),
        ("BREV R0, R1", {1: 0b1011}, 0b1101 << 28),
        ("FLO.U32 R0, R1", {1: 0x12345}, 16),
        ("FLO.U32 R0, R1", {1: 0}, -1),
        ("BMSK R0, RZ, R1", {1: 5}, 31),
        ("SEL R0, R1, R2, !P0", {1: 3, 2: 4}, 3),
        ("FADD R0, R1, -|R2|", {1: bits(1.5), 2: bits(-0.25)}, bits(1.25)),
        ("FMNMX R0, R1, R2, PT", {1: bits(math.nan), 2: bits(-0.25)}, bits(-0.25)),
        ("FMNMX.NAN R0, R1, R2, !PT", {1: bits(math.inf), 2: bits(math.nan)}, 0x7FC00000),
        ("F2I.TRUNC.NTZ R0, R1", {1: bits(-2.75)}, -2),
        ("F2I.FLOOR.NTZ R0, R1", {1: bits(1e20)}, (1 << 31) - 1),
        ("F2I.NTZ R0, R1", {1: bits(math.nan)}, 0),
        ("F2I R0, R1", {1: bits(2.5)}, 2),
        ("I2F.U32.RP R0, R1", {1: (1 << 24) + 1}, bits(float((1 << 24) + 2))),
        ("I2F.U16 R0, R1", {1: 0xABCD0007}, bits(7.0)),
        ("I2F.S8 R0, R1.B2", {1: 0xABFD0007}, bits(-3.0)),
        ("FADD.RM R0, R1, R2", {1: bits(1.0), 2: bits(1e-20)}, bits(1.0)),
        ("FADD.RP R0, R1, R2", {1: bits(1.0), 2: bits(1e-20)}, bits(1.0) + 1),
        ("I2FP.F32.S32 R0, R1", {1: -7}, bits(-7.0)),
        ("HADD2.F32 R0, -RZ, R1.H1_H1", {1: 0x3E000000}, bits(1.5)),
        ("F2FP.F16.F32.PACK_AB R0, R1, R2", {1: bits(1.5), 2: bits(-2.0)}, 0x3E00C000),
        ("F2FP.BF16.F32.PACK_AB R0, RZ, R1", {1: bits(1.00390625)}, 0x3F80),
        ("FRND.FLOOR R0, R1", {1: bits(-0.5)}, bits(-1.0)),
        ("MUFU.RCP R0, R1", {1: bits(-4.0)}, bits(-0.25)),
        ("P2R R0, PR, R1, 0x3", {1: 0xFF}, 0xFC | 2),
    ],
)
def test_an_instruction_gives(text, given, expected):
    after, _ = registers_after(text, given, {1: True})
    assert int(after[0]) == expected & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("low", "high", "given"),
    [
        # a - b, a + b, a - (b << 4), of 64 bits in two words
        ("IADD3 R0, P0, R2, -R4, RZ", "IADD3.X R1, R3, ~R5, RZ, P0, !PT", lambda a, b: a - b),
        ("IADD3 R0, P0, R2, R4, RZ", "IADD3.X R1, R3, R5, RZ, P0, !PT", lambda a, b: a + b),
        ("IADD3 R0, P0, R2, R4, RZ", "IMAD.X R1, R3, 0x1, R5, P0", lambda a, b: a + b),
        ("LEA R0, P0, -R4, R2, 0x4", "IMAD.X R1, R3, 0x1, ~R6, P0", lambda a, b: a - (b << 4)),
        ("LEA R0, P0, R4, R2, 0x4", "LEA.HI.X R1, R4, R3, R5, 0x4, P0", lambda a, b: a + (b << 4)),
    ],
)
@pytest.mark.parametrize("b", [0, 1, 0xFFFFFFFF, 0x1_0000_0000, 0x123_4567_89AB])
@pytest.mark.parametrize("a", [0, 1, 0xFFFFFFFF, 0x7654_3210_FEDC])
def test_sums_of_64_bits_carry(low, high, given, a, b):
    words = {2: a, 3: a >> 32, 4: b, 5: b >> 32, 6: (b << 4) >> 32}
    after, predicates = registers_after(low, words)
    upper, _ = registers_after(high, words, {0: predicates[0]})
    total = int(after[0]) | int(upper[1]) << 32
    assert total == given(a, b) % 2**64


@pytest.mark.parametrize("order", ["LT", "LE", "GT", "GE", "NE", "EQ"])
def test_comparisons_of_64_bits(order):
    compare = getattr(int, f"__{order.lower()}__")
    for a in (-(1 << 40), -1, 0, 1, 1 << 32, (1 << 32) + 1):
        for b in (-1, 0, 1, 1 << 32, (1 << 40) + 1):
            words = {2: a, 3: a >> 32, 4: b, 5: b >> 32}
            lower = "GE" if order == "GE" else order
            _, first = registers_after(f"ISETP.{lower}.U32.AND P0, PT, R2, R4, PT", words)
            _, second = registers_after(
                f"ISETP.{order}.AND.EX P1, P2, R3, R5, PT, P0", words, {0: first[0]}
            )
            assert bool(second[1]) == compare(a, b), (a, b)
            assert bool(second[2]) == (not compare(a, b))


def test_comparisons_with_what_is_no_number():
    nan = {1: bits(math.nan), 2: bits(1.0)}
    for order, expected in (("GT", 0), ("GTU", 1), ("NE", 0), ("NEU", 1), ("NAN", 1), ("NUM", 0)):
        _, after = registers_after(f"FSETP.{order}.AND P0, PT, R1, R2, PT", nan)
        assert bool(after[0]) == bool(expected), order


def test_what_is_not_known_is_named():
    with pytest.raises(UnsupportedError, match=r"unknown instruction HMMA\.16816 R0"):
        registers_after("HMMA.16816 R0, R1, R2, R3")
    with pytest.raises(UnsupportedError, match="unknown SAT of FADD.SAT R0"):
        registers_after("FADD.SAT R0, R1, R2")


# Sums that are rounded once.


def _nearest(value, kind):
    """Round a fraction to a float, ties to even."""
    guess = kind(float(value))
    around = [np.nextafter(guess, kind(-np.inf)), guess, np.nextafter(guess, kind(np.inf))]
    return min(around, key=lambda x: (abs(Fraction(float(x)) - value), x.view(f"u{x.nbytes}") & 1))


@pytest.mark.parametrize(
    ("kind", "fused"), [(np.float32, single_multiply_add), (np.float64, double_multiply_add)]
)
def test_fused_multiply_adds_round_once(kind, fused):
    draw = np.random.default_rng(0)
    digits = np.finfo(kind).nmant
    a, b = (kind(1) + draw.integers(0, 8, 3000).astype(kind) * kind(2.0**-digits) for _ in "ab")
    # Sums near half-way between two floats: a product, and a c far below or above it.
    c = draw.choice([-1.0, 1.0], 3000).astype(kind) * kind(2) ** draw.integers(-70, 30, 3000)
    c = c.astype(kind)
    # A product half-way, and a c so small that only its sign tells.
    half = (digits + 1) // 2
    a[:2], b[:2] = 1 + 2.0**-half, 1 + 2.0 ** (half - digits - 1)
    c[:2] = 2.0 ** (-3 * digits), -(2.0 ** (-3 * digits))
    found = fused(a, b, c)
    for x, y, z, got in zip(a, b, c, found, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert got == _nearest(exact, kind), (x, y, z)


def test_rounding_in_a_direction():
    third, three, zero = np.array([1 / 3]), np.array([3.0]), np.zeros(1)
    exact = Fraction(1 / 3) * 3
    up, down = (double_multiply_add(third, three, zero, way)[0] for way in ("RP", "RM"))
    assert Fraction(up) >= exact >= Fraction(down)
    assert up == np.nextafter(down, 2.0)


# How threads part and meet.

PARTED = (
    "S2R R0, SR_TID.X",
    "BSSY B0, 0x90",
    "LOP3.LUT R1, R0, 0x1, RZ, 0xc0, !PT",
    "ISETP.NE.AND P0, PT, R1, RZ, PT",
    "@P0 BRA 0x70",
    "IADD3 R2, R2, 0x1, RZ",
    "BRA 0x80",
    "IADD3 R2, R2, 0x2, RZ",
    "BSYNC B0",
    "IADD3 R2, R2, 0x4, RZ",
    "EXIT",
)


def test_threads_of_a_warp_part_and_meet():
    issued = run(assemble(*PARTED), threads=64).issued
    # Each way is gone by half of each warp, and what follows by the whole.
    assert issued == [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]


def test_who_has_gone_ahead_waits_for_the_others():
    # One half jumps over the other's way to a BSYNC that lies before it.
    program = list(PARTED)
    program[4] = "@P0 BRA 0xb0"
    program[7] = "NOP"
    program += ["IADD3 R2, R2, 0x2, RZ", "BRA 0x80"]
    issued = run(assemble(*program), threads=64).issued
    # The BSYNC is reached by each half of a warp.
    assert issued == [2, 2, 2, 2, 2, 2, 2, 0, 4, 2, 2, 2, 2]


def test_a_loop_runs_as_often_as_its_longest_thread():
    loop = (
        "S2R R0, SR_TID.X",
        "BSSY B0, 0x50",
        "IADD3 R0, R0, -0x1, RZ",
        "ISETP.GE.AND P0, PT, R0, RZ, PT",
        "@P0 BRA 0x20",
        "BSYNC B0",
        "EXIT",
    )
    issued = run(assemble(*loop), threads=64).issued
    assert issued[2] == 32 + 64
    assert issued[6] == 2


def test_a_call_returns():
    program = ("MOV R4, 0x20", "CALL.REL.NOINC 0x30", "EXIT", "NOP", "RET.REL.NODEC R4 0x0")
    assert run(assemble(*program)).issued == [1, 1, 1, 1, 1]


reads_memory = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="only Linux says where a process has memory"
)


@reads_memory
def test_a_block_waits_at_its_barrier_and_shares_memory():
    room = np.zeros(64 + 8, np.uint32)
    first = -room.ctypes.data // 4 % 8  # where a sector begins
    target = room[first : first + 64]
    program = (
        "S2R R0, SR_TID.X",
        "IMAD.SHL.U32 R1, R0, 0x4, RZ",
        "STS [R1], R0",
        "BAR.SYNC.DEFER_BLOCKING 0x0",
        "IADD3 R2, -R1, 0xfc, RZ",
        "LDS R3, [R2]",
        "LDC.64 R4, c[0x0][0x210]",
        "IMAD.WIDE.U32 R4, R0, 0x4, R4",
        "STG.E desc[UR4][R4.64], R3",
        "LDG.E R6, desc[UR4][R4.64]",
        "ISETP.NE.AND P0, PT, R6, R3, PT",
        "@P0 BPT.TRAP 0x1",
        "EXIT",
    )
    execution = run(assemble(*program), 64, target.ctypes.data.to_bytes(8, "little"))
    assert not target.any()  # the process's memory is never written
    assert execution.memory.differences() == (256, 63)  # 63 - 63 is 0, which stands there
    target[:] = np.arange(63, -1, -1)
    assert execution.memory.differences() == (256, 0)
    traffic = execution.traffic
    assert (traffic.load_sectors, traffic.store_sectors, traffic.shared_wavefronts) == (8, 8, 4)


@reads_memory
def test_the_last_of_many_blocks_sees_what_all_have_written():
    counter = np.zeros(2, np.uint32)
    program = (
        "LDC.64 R2, c[0x0][0x210]",
        "MOV R1, 0x1",
        "ATOMG.E.ADD.STRONG.GPU PT, R0, desc[UR4][R2.64], R1",
        "ISETP.NE.AND P0, PT, R0, 0xc7, PT",
        "@P0 EXIT",
        "NOP",
        "EXIT",
    )
    place = counter.ctypes.data.to_bytes(8, "little")
    kernel = assemble(*program)
    execution = Program(kernel).run(Launch("by_hand", 200, 1, place), range(200))
    # One thread a block: 199 have gone before the last.
    assert execution.issued == [200, 200, 200, 200, 200, 1, 1]
    assert execution.traffic.store_sectors == 200
    assert len({int(key) >> 48 for keys in execution.traffic.touched for key in keys}) == 200


@reads_memory
def test_threads_that_add_to_one_place_by_comparing_take_turns():
    """As the compiler adds 64 bits in shared memory: what was read must still be there."""
    counts = np.zeros(2, np.uint64)
    program = (
        "S2R R0, SR_TID.X",
        "STS [0x40], RZ",
        "STS [0x44], RZ",
        "BAR.SYNC.DEFER_BLOCKING 0x0",
        "LDS.64 R4, [0x40]",
        "IADD3 R6, P0, R4, R0, RZ",
        "IMAD.X R7, R5, 0x1, RZ, P0",
        "ATOMS.CAST.SPIN.64 R6, [0x40], R4, R6",
        "ISETP.EQ.U32.AND P0, PT, R6, 0x1, PT",
        "ISETP.EQ.U32.AND.EX P0, PT, R7, RZ, PT, P0",
        "@!P0 BRA 0x40",
        "LDC.64 R2, c[0x0][0x210]",
        "BAR.SYNC.DEFER_BLOCKING 0x0",
        "LDS.64 R4, [0x40]",
        "STG.E.64 desc[UR4][R2.64], R4",
        "EXIT",
    )
    execution = run(assemble(*program), 64, counts.ctypes.data.to_bytes(8, "little"))
    # One thread succeeds at a time, so that each of the two warps goes round at least 32 times.
    assert execution.issued[7] >= 64
    counts[0] = sum(range(64))
    written, different = execution.memory.differences()
    assert (written > 0, different) == (True, 0)


def test_threads_that_wait_for_each_other_are_reported():
    with pytest.raises(UnsupportedError, match="without end"):
        run(
            assemble(
                "S2R R0, SR_TID.X",
                "ISETP.NE.AND P0, PT, R0, RZ, PT",
                "@P0 WARPSYNC.ALL",
                "@!P0 BAR.SYNC.DEFER_BLOCKING 0x0",
                "EXIT",
            )
        )


@reads_memory
def test_a_generic_access_finds_shared_and_global_memory():
    values = np.full(1, 7, np.uint32)
    program = (
        "S2R R0, SR_TID.X",
        "MOV R8, 0x9",
        "STS [0x40], R8",
        "LDC.64 R2, c[0x0][0x210]",
        "ISETP.NE.AND P0, PT, R0, RZ, PT",
        "@P0 S2R R3, SR_SWINHI",
        "@P0 MOV R2, 0x40",
        "LD.E R4, desc[UR4][R2.64]",
        "SEL R5, 0x9, 0x7, P0",
        "ISETP.NE.AND P1, PT, R4, R5, PT",
        "@P1 BPT.TRAP 0x1",
        "EXIT",
    )
    place = values.ctypes.data.to_bytes(8, "little")
    traffic = run(assemble(*program), 32, place).traffic
    assert (traffic.load_sectors, traffic.shared_wavefronts) == (1, 2)


@reads_memory
def test_faulty_accesses_are_reported():
    with pytest.raises(UnsupportedError, match=r"LDG\.E R0.*no memory at 0x10"):
        run(assemble("MOV R2, 0x10", "LDG.E R0, desc[UR4][R2.64]", "EXIT"))
    with pytest.raises(UnsupportedError, match="0x400 in 0x400 bytes of shared memory"):
        run(assemble("LDS R0, [0x400]", "EXIT"))
    data = np.zeros(8, np.uint32)
    with pytest.raises(MemoryFaultError, match="no multiple of 8"):
        GlobalMemory().read(np.array([data.ctypes.data + 4 + data.ctypes.data % 8]), 8)
