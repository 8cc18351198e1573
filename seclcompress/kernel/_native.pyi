"""The compiled kernel; see csrc/module.cpp."""

# address, channels, batch, channel and position stride, width, row stride; strides in elements
_View = tuple[int, int, int, int, int, int, int]
# kernel name or None, type, n, layers, threads, batch, positions, address of a, address of d
_Call = tuple[str | None, int, int, int, int, int, int, int, int]

# None in place of a tensor that is read means the identity: one image with a channel for each
# position.
def forward(
    call: _Call, input: _View | None, output: _View, scale: int, bias: int, transposed: bool, /
) -> None: ...
def backward(
    call: _Call,
    input: _View | None,
    output_grad: _View | None,
    input_grad: _View | None,
    a_grad: int,
    d_grad: int,
    /,
) -> None: ...
def supports(n: int, /) -> bool: ...
def kernels() -> list[str]: ...
