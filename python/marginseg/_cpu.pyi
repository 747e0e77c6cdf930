version: str

def set_parallel_for(address: int) -> None: ...
def gaussian_filter_axis(
    input: int,
    output: int,
    dtype: int,
    outer: int,
    size: int,
    inner: int,
    weights: int,
    radius: int,
    extension: int,
    cval: float,
    adjoint: bool,
) -> None: ...
def gaussian_field(
    coefficients: int,
    output: int,
    dtype: int,
    count: int,
    ranks: list[int],
    shape: list[int],
    factors: list[int],
) -> None: ...
