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

# float32, channels last. Kernel name or None, threads, (batch, rows, columns, channels), output (rows,
# columns, channels), four pairs for rows and columns, addresses: input; filters, filter_bias, matrix,
# bias, residual (0 for what is left out); output.
def convolve(
    kernel: str | None,
    threads: int,
    sizes: tuple[int, int, int, int],
    output_sizes: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    input: int,
    parameters: tuple[int, ...],
    relu: bool,
    output: int,
    /,
) -> None: ...
def supports(n: int, /) -> bool: ...
def kernels() -> list[str]: ...
