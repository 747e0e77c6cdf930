from collections.abc import Sequence

version: str

def instruction_set() -> str: ...
def set_parallel_for(address: int) -> None: ...
def gaussian_filter(
    input: int,
    input_dtype: int,
    output: int,
    dtype: int,
    batch: int,
    shape: Sequence[int],
    weights: Sequence[int],
    radii: Sequence[int],
    extension: int,
    cval: float,
) -> None: ...
def gaussian_field(
    coefficients: int,
    output: int,
    dtype: int,
    count: int,
    ranks: Sequence[int],
    shape: Sequence[int],
    factors: Sequence[int],
) -> None: ...
def assign_labels(
    values: int,
    dtype: int,
    shape: tuple[int, int, int],
    scale: int,
    offset: int,
    fallback: int,
    floor: float,
    bits: int,
    labels: int,
    label_dtype: int,
    volumes: int,
    masses: int,
) -> None: ...
def folded_share(
    coefficients: int,
    shares: int,
    dtype: int,
    count: int,
    ranks: Sequence[int],
    shape: Sequence[int],
    factors: Sequence[int],
) -> None: ...
def sample(
    label: int,
    dtype: int,
    coefficients: int,
    output: int,
    samples: int,
    batch: int,
    channels: int,
    shape: Sequence[int],
    linear: bool,
    ranks: Sequence[int],
    factors: Sequence[int],
) -> None: ...
def warp(
    input: int,
    displacement: int,
    output: int,
    dtype: int,
    batch: int,
    channels: int,
    shape: Sequence[int],
    input_stride: int,
    extension: int,
    linear: bool,
    cval: float,
) -> None: ...
def warp_label(
    input: int,
    displacement: int,
    output: int,
    label_dtype: int,
    displacement_dtype: int,
    batch: int,
    channels: int,
    shape: Sequence[int],
    input_stride: int,
    extension: int,
    linear: bool,
    cval: int,
) -> None: ...
def warp_backward(
    gradient: int,
    input: int,
    displacement: int,
    input_gradient: int,
    displacement_gradient: int,
    dtype: int,
    batch: int,
    channels: int,
    shape: Sequence[int],
    input_stride: int,
    extension: int,
    linear: bool,
    cval: float,
) -> None: ...
def warp_double_backward(
    input_weight: int,
    displacement_weight: int,
    gradient: int,
    input: int,
    displacement: int,
    second_gradient: int,
    second_input: int,
    second_displacement: int,
    dtype: int,
    batch: int,
    channels: int,
    shape: Sequence[int],
    input_stride: int,
    extension: int,
    linear: bool,
    cval: float,
) -> None: ...
def dice_threshold(
    values: int,
    dtype: int,
    offsets: int,
    count: int,
    size: int,
    sorted: bool,
    weight: float,
    threshold: int,
    value: int,
    volume: int,
) -> None: ...
def dice_curve(
    values: int,
    dtype: int,
    count: int,
    size: int,
    weight: float,
    sorted: int,
    value: int,
    volume: int,
) -> None: ...

class Tally:
    def __init__(self, dtype: int, count: int, weight: float, at_half: bool) -> None: ...
    def add(self, values: int, size: int) -> None: ...
    def finish_pass(self) -> bool: ...
    def misfits(self) -> tuple[int, bool, float, float]: ...
    def changed(self) -> bool: ...
    def results(self, threshold: int, value: int, volume: int) -> None: ...
