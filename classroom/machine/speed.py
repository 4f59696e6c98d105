"""Which number formats this machine multiplies fast: a small matrix product in each, timed on the spot.

A format is fast only where the processor has instructions for it. Elsewhere the library converts or loops,
and a format with half the bits can be many times slower, as FP16 is on some CPUs: hence the small sizes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

from coursekit.throughput.meter import in_turns


@dataclass(frozen=True)
class Speed:
    """`seconds` for one product of two n x n matrices; None where the format cannot be multiplied at all."""

    name: str
    n: int
    seconds: float | None

    @property
    def gflops(self) -> float | None:
        """10^9 operations per second; a product of n x n matrices is 2 n^3 of them."""
        return None if self.seconds is None else 2 * self.n**3 / self.seconds / 1e9


def measure_speeds(device: str = "cpu", n: int | None = None, budget_seconds: float = 0.06) -> list[Speed]:
    """Time a product in FP32, BF16, FP16 and, on a GPU, TF32 and FP8; `budget_seconds` for each.

    On a processor one core does the work, so that other programs disturb the figures less.
    """
    import torch

    n = n or (4096 if device == "cuda" else 192)
    with _one_thread():
        return _measure(torch.full((n, n), 0.5, device=device), device, budget_seconds)


def _measure(x, device: str, budget_seconds: float) -> list[Speed]:
    n = len(x)
    products = {"FP32": x, "BF16": x.bfloat16(), "FP16": x.half()}
    speeds = [Speed(name, n, _seconds(lambda m=m: m @ m, budget_seconds)) for name, m in products.items()]
    if device == "cuda":
        speeds.insert(1, Speed("TF32", n, _seconds(_with_tf32(lambda: x @ x), budget_seconds)))
        speeds.append(Speed("FP8 E4M3", n, _seconds(_fp8_product(x), budget_seconds)))
    return speeds


@contextmanager
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(product, budget_seconds: float) -> float | None:
    """Fastest of as many runs as fit the budget (at least two); None if the product is refused."""
    try:
        once = in_turns({"product": product}, rounds=1, warmup=1)[
            "product"
        ].median  # the warm-up loads kernels
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return None
    rounds = max(2, int(budget_seconds / max(once, 1e-9)))
    return in_turns({"product": product}, rounds, warmup=0)["product"].minimum


def _with_tf32(product):
    import torch

    def run():
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return product()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


def _fp8_product(x):
    """FP8 has no `@`: torch has the product only with a scale for each factor, on GPUs that can do it."""
    import torch

    def run():
        one = torch.ones((), device=x.device)
        low = x.to(torch.float8_e4m3fn)
        # the second factor must be column-major, hence the transpose of a row-major copy
        return torch._scaled_mm(low, low.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return run


def verdict(speed: Speed, fp32: Speed) -> str:
    """One word on a format beside FP32 on the same machine."""
    if speed.seconds is None or fp32.seconds is None:
        return "not available"
    if speed is fp32:
        return "the yardstick"
    ratio = fp32.seconds / speed.seconds
    if ratio >= 1.3:
        return f"fast: {ratio:.1f}x FP32"
    return f"as FP32 ({ratio:.2f}x)" if ratio >= 0.7 else f"slow: {1 / ratio:.0f}x slower than FP32"
