"""Measure the roofline of this machine: what an operation can reach at most, and where real ones stand below it.

    >>> card = Roof(peak_flops=312e12, bytes_per_second=2.0e12)        # about an A100 in BF16
    >>> card.ridge, card.bound(100), card.bound(200)
    (156.0, 'memory', 'compute')

An operation moves bytes and computes. Its intensity is FLOPs per byte moved. Intensity times bandwidth is all that it
can compute per second, up to the processor's peak. Left of the ridge (peak / bandwidth) faster arithmetic does not
help, right of it faster memory does not. Bytes are counted as if every array were read or written once from memory:
arrays that fit into a cache can stand above the roof, arrays that are read twice stand below.

Peak and bandwidth are measured, not taken from a data sheet: the best of several sizes and repetitions. Rates of the
CPU are for the threads that torch uses; on a machine that does other work too, call `torch.set_num_threads(1)` first.
Left out: caches, which have roofs of their own.

Source: Williams, Waterman, Patterson, Roofline: an insightful visual performance model for multicore architectures,
CACM 52(4), 2009; copy and triad: McCalpin, STREAM, 1995.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from coursekit.throughput.meter import in_turns

ARRAYS_BYTES = 192 * 2**20  # all three arrays together; larger than the caches of most processors


@dataclass(frozen=True)
class Roof:
    """What a machine can do at most: FLOP/s of products, bytes/s to and from memory."""

    peak_flops: float
    bytes_per_second: float

    def __post_init__(self):
        if not (self.peak_flops > 0 and self.bytes_per_second > 0):
            raise ValueError(
                f"peak and bandwidth must be above 0; got {self.peak_flops} and {self.bytes_per_second}."
            )

    @property
    def ridge(self) -> float:
        """FLOPs per byte; from here on an operation can be bound by arithmetic."""
        return self.peak_flops / self.bytes_per_second

    def attainable(self, intensity: float) -> float:
        """FLOP/s at most, for `intensity` FLOPs per byte.

        >>> Roof(peak_flops=100.0, bytes_per_second=10.0).attainable(2.0)
        20.0
        """
        return min(self.peak_flops, self.bytes_per_second * intensity)

    def bound(self, intensity: float) -> str:
        """What limits an operation of `intensity` FLOPs per byte: "memory" or "compute"."""
        return "memory" if intensity < self.ridge else "compute"


@dataclass(frozen=True)
class Operation:
    """FLOPs and bytes moved of one call, and the call."""

    name: str
    flops: int
    nbytes: int
    run: Callable[[], object]

    @property
    def intensity(self) -> float:
        return self.flops / self.nbytes


@dataclass(frozen=True)
class Point:
    """An operation on the roofline; `share` is that of what the roof allows at its intensity."""

    name: str
    intensity: float  # FLOPs per byte
    flops_per_second: float
    bound: str  # "memory" or "compute"
    share: float


def measure_roof(dtype=None, device: str = "cpu", rounds: int = 5) -> Roof:
    """Peak of matrix products in `dtype` (default float32) and bandwidth of the memory. About a second on a CPU."""
    return Roof(peak_flops(dtype, device, rounds=rounds), memory_bandwidth(device, rounds=rounds))


def peak_flops(dtype=None, device: str = "cpu", sizes: Sequence[int] | None = None, rounds: int = 5) -> float:
    """FLOP/s of the fastest product of two n x n matrices, over sizes and rounds.

    Raises ValueError for a dtype that the device cannot multiply.
    """
    import torch

    dtype = dtype or torch.float32
    if sizes is None:
        sizes = (256, 512, 1024) if device == "cpu" else (4096, 8192)  # smaller ones do not fill a GPU
    products = {str(n): matmul(n, dtype, device) for n in sizes}
    try:
        timings = in_turns({name: p.run for name, p in products.items()}, rounds, warmup=1)
    except RuntimeError as error:
        raise ValueError(f"{device} cannot multiply matrices of {dtype}: {error}") from error
    return max(products[name].flops / timing.minimum for name, timing in timings.items())


def memory_bandwidth(device: str = "cpu", nbytes: int = ARRAYS_BYTES, rounds: int = 5) -> float:
    """Bytes/s of the fastest of STREAM's kind: copy, triad, and a sum in place; the best round.

    A processor that reads a line before it overwrites it moves more for copy and triad than is counted, as in STREAM;
    in place the line is there already. So on most machines the sum in place is the fastest of the three.
    """
    import torch

    a, b, c = torch.zeros(3, nbytes // 12, device=device)  # float32: 4 bytes per number, three arrays
    moves = {
        "copy": partial(a.copy_, b),
        "triad": partial(torch.add, b, c, alpha=2.0, out=a),
        "in place": partial(a.add_, b, alpha=2.0),
    }
    arrays_moved = {"copy": 2, "triad": 3, "in place": 3}  # read or written
    timings = in_turns(moves, rounds, warmup=1)
    return max(4 * a.numel() * arrays_moved[name] / timings[name].minimum for name in moves)


def matmul(n: int, dtype=None, device: str = "cpu") -> Operation:
    """Multiply two n x n matrices: 2 n^3 FLOPs, three matrices moved; intensity n/6 in float32."""
    import torch

    x = torch.full((n, n), 0.5, dtype=dtype or torch.float32, device=device)
    out = torch.empty_like(x)  # or allocation would be timed too
    return Operation(
        f"matmul {n}", 2 * n**3, 3 * n * n * x.element_size(), partial(torch.mm, x, x.T, out=out)
    )


def rms_norm(rows: int, width: int, device: str = "cpu") -> Operation:
    """Normalise float32 [rows, width]: square, sum, scale, weight are 4 FLOPs per element, read and written once."""
    import torch

    x = torch.ones(rows, width, device=device)
    w = torch.ones(width, device=device)
    run = partial(torch.nn.functional.rms_norm, x, (width,), w)
    return Operation("RMSNorm", 4 * x.numel(), 8 * x.numel() + 4 * width, run)


def softmax(rows: int, width: int, device: str = "cpu") -> Operation:
    """Softmax of float32 [rows, width]: maximum, difference, exponential, sum, quotient: 5 FLOPs per element."""
    import torch

    x = torch.ones(rows, width, device=device)
    return Operation("softmax", 5 * x.numel(), 8 * x.numel(), partial(x.softmax, -1))


def adam_step(count: int, device: str = "cpu") -> Operation:
    """Step fused AdamW on `count` float32 weights: about 14 FLOPs each; 4 arrays read, 3 written."""
    import torch

    p = torch.ones(count, device=device, requires_grad=True)
    p.grad = torch.full_like(p, 0.1)
    return Operation("AdamW step", 14 * count, 28 * count, torch.optim.AdamW([p], fused=True).step)


def decode(n: int, dtype=None, device: str = "cpu") -> Operation:
    """Multiply one token [n] by a weight [n, n]: each number is read for two FLOPs. Generation repeats this."""
    import torch

    w = torch.full((n, n), 0.5, dtype=dtype or torch.float32, device=device)
    x = torch.ones(n, dtype=w.dtype, device=device)
    return Operation(f"decode {n}", 2 * n * n, (n * n + 2 * n) * w.element_size(), partial(torch.mv, w, x))


def sample_operations(device: str = "cpu") -> list[Operation]:
    """Operations of a training step and of generation; the larger ones do not fit into a cache."""
    products = [matmul(n, device=device) for n in (64, 256, 1024)]
    rest = [rms_norm(4096, 2048, device), softmax(4096, 2048, device), adam_step(2**23, device)]
    return [*products, *rest, decode(4096, device=device)]


def measured_points(operations: Iterable[Operation], roof: Roof, rounds: int = 7) -> list[Point]:
    """Time all operations in turns: the median gives a point's height, FLOPs per byte its place."""
    operations = list(operations)
    calls = {op.name: _calls(op) for op in operations}
    timings = in_turns({op.name: partial(_repeat, op.run, calls[op.name]) for op in operations}, rounds)
    return [_point(op, op.flops * calls[op.name] / timings[op.name].median, roof) for op in operations]


def _calls(op: Operation) -> int:
    """As many calls as take a millisecond or more: a clock read around microseconds measures the clock."""
    seconds = in_turns({"once": op.run}, rounds=3)["once"].median
    return max(1, math.ceil(1e-3 / max(seconds, 1e-7)))


def _repeat(run: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        run()


def _point(op: Operation, rate: float, roof: Roof) -> Point:
    return Point(op.name, op.intensity, rate, roof.bound(op.intensity), rate / roof.attainable(op.intensity))
