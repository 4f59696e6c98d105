"""Time our codec and block formats (lecture 1) beside torch, ml_dtypes, gfloat and torchao.

    python -m classroom.lectures.formats.benchmark                        table on the screen, about three minutes
    python -m classroom.lectures.formats.benchmark --write                and into benchmarks/results/formats.md
    python -m classroom.lectures.formats.benchmark --sizes 1 --rounds 9   one million elements only

All contestants allocate their result afresh in every call ("fresh"), as the peers cannot do otherwise; rows marked
"out=" write into memory that is already there.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path

import click
import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import torch

from classroom.records.race import HEADER, Race, environment, rows, run
from coursekit.formats import block, tensor
from coursekit.formats.spec import BF16, E4M3, FP16, MXFP4, MXFP6_E2M3, MXFP8_E4M3, NVFP4

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "formats.md"
PACKAGES = ("torch", "torchao", "ml_dtypes", "gfloat", "numpy")
FP8 = torch.float8_e4m3fn


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    """Assert that results to be timed are equal; NaN equals NaN."""
    assert a.shape == b.shape, "shapes differ"
    equal = (a == b) | (a.isnan() & b.isnan())
    assert equal.all(), "results differ"


def codec_races(n: int) -> list[Race]:
    x = torch.randn(n, generator=torch.Generator().manual_seed(0)) * 3
    array, out, codes = x.numpy(), torch.empty_like(x), tensor.encode(x, E4M3)
    copy = {"copy_": lambda: out.copy_(x)}
    ml_codes = codes.numpy().view(ml_dtypes.float8_e4m3fn)
    same(tensor.round_to(x, E4M3, saturate=True), x.to(FP8).float())
    same(codes, torch.from_numpy(array.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)))
    same(tensor.decode(codes, E4M3), codes.view(FP8).float())
    same(tensor.round_to(x, BF16), x.bfloat16().float())
    same(tensor.round_to(x, FP16), x.half().float())
    return [
        Race(
            "E4M3 round trip",
            n,
            {
                "ours": lambda: tensor.round_to(x, E4M3, saturate=True),
                "torch": lambda: x.to(FP8).float(),
                "ml_dtypes": lambda: array.astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
                **copy,
            },
            {"torch": 2},
        ),
        Race(
            "E4M3 round trip, out=",
            n,
            {
                "ours": lambda: tensor.round_to(x, E4M3, saturate=True, out=out),
                "torch": lambda: out.copy_(x.to(FP8)),
                **copy,
            },
            {"torch": 2},
        ),
        Race(
            "E4M3 encode",
            n,
            {
                "ours": lambda: tensor.encode(x, E4M3),
                "torch": lambda: x.to(FP8),
                "ml_dtypes": lambda: array.astype(ml_dtypes.float8_e4m3fn),
                **copy,
            },
            {"ml_dtypes": 5},
        ),
        Race(
            "E4M3 decode",
            n,
            {
                "ours": lambda: tensor.decode(codes, E4M3),
                "torch": lambda: codes.view(FP8).float(),
                "ml_dtypes": lambda: ml_codes.astype(np.float32),
                **copy,
            },
        ),
        Race(
            "BF16 round trip",
            n,
            {"ours": lambda: tensor.round_to(x, BF16), "torch": lambda: x.bfloat16().float(), **copy},
        ),
        Race(
            "FP16 round trip",
            n,
            {"ours": lambda: tensor.round_to(x, FP16), "torch": lambda: x.half().float(), **copy},
        ),
    ]


def gfloat_race(n: int) -> Race:
    """Time gfloat, which rounds numpy arrays of float64: a sixteenth of the smallest size is enough."""
    x = torch.randn(n, generator=torch.Generator().manual_seed(0)) * 3
    double, out = x.double().numpy(), torch.empty_like(x)
    info = gfloat.formats.format_info_ocp_e4m3
    same(tensor.round_to(x, E4M3), torch.from_numpy(gfloat.round_ndarray(info, double)).float())
    contestants = {
        "ours": lambda: tensor.round_to(x, E4M3),
        "gfloat": lambda: gfloat.round_ndarray(info, double),
        "copy_": lambda: out.copy_(x),
    }
    return Race("E4M3 round trip, NaN on overflow", n, contestants)


def block_races(n: int, compiled) -> list[Race]:
    """Time MX in the standard's mode and in NVIDIA's; on a CPU torchao compiles only rceil (no E8M0 in Inductor)."""
    from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

    x = torch.randn(n // 1024, 1024, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    races = []
    for spec, element in ((MXFP8_E4M3, FP8), (MXFP6_E2M3, "fp6_e2m3"), (MXFP4, torch.float4_e2m1fn_x2)):
        for mode in ("floor", "rceil"):
            how = ScaleCalculationMode[mode.upper()]
            contestants = {
                "ours": lambda spec=spec, mode=mode: block.quantize(x, spec, scale_mode=mode),
                "torchao": lambda element=element, how=how: to_mx(x, element, 32, how),
            }
            scales, codes = to_mx(x, element, 32, how)
            ours = block.quantize(x, spec, scale_mode=mode)
            same(ours.scales, scales.view(torch.uint8))
            same(_unpacked(codes, spec), ours.codes)
            if compiled and mode == "rceil":
                contestants["torchao compiled"] = lambda element=element, how=how: compiled(
                    x, element, 32, how
                )
            races.append(
                Race(
                    f"{spec.name} {mode}",
                    n,
                    {**contestants, "copy_": lambda: out.copy_(x)},
                    {"torchao": 4, "torchao compiled": 4},
                )
            )
    scale = x.abs().amax() / (448 * 6)
    nvfp4 = {
        "ours": lambda: block.quantize(x, NVFP4),
        "torchao": lambda: nvfp4_quantize(x, 16, x.abs().amax() / (448 * 6)),
        "copy_": lambda: out.copy_(x),
    }
    same(_unpacked(nvfp4_quantize(x, 16, scale)[1], NVFP4), block.quantize(x, NVFP4).codes)
    return [*races, Race("NVFP4", n, nvfp4, {"torchao": 4})]


def _unpacked(codes: torch.Tensor, spec) -> torch.Tensor:
    if spec.element.bits != 4:
        return codes.view(torch.uint8)
    return torch.stack([codes & 15, codes >> 4], -1).flatten(-2)


def compile_lines(n: int) -> list[str]:
    """Time compilation and the compiled code, for ours and torchao's; results must equal the eager ones."""
    import torch._inductor.config
    from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx

    x = torch.randn(n // 1024, 1024, generator=torch.Generator().manual_seed(0))
    contestants = {
        "ours, E4M3 round trip": lambda x: tensor.round_to(x, E4M3, saturate=True),
        "ours, E4M3 encode": lambda x: tensor.encode(x, E4M3),
        "ours, MXFP4 rceil": lambda x: block.quantize(x, MXFP4, scale_mode="rceil").codes,
        "torchao, MXFP4 rceil": lambda x: to_mx(x, torch.float4_e2m1fn_x2, 32, ScaleCalculationMode.RCEIL)[1],
        "torchao, MXFP8 E4M3 rceil": lambda x: to_mx(x, FP8, 32, ScaleCalculationMode.RCEIL)[1].view(
            torch.uint8
        ),
    }
    torch._inductor.config.force_disable_caches = True  # or a second run of this file would find its kernels
    lines = ["| compiled | seconds to compile | G elements/s compiled | eager |", "|---|---|---|---|"]
    for name, function in contestants.items():
        torch.compiler.reset()
        fast = torch.compile(function, fullgraph=True)
        begin = time.perf_counter()
        same(fast(x), function(x))
        seconds = time.perf_counter() - begin
        timings = run(
            Race(name, n, {"compiled": lambda fast=fast: fast(x), "eager": lambda f=function: f(x)})
        )
        rates = [n / timings[who].minimum / 1e9 for who in ("compiled", "eager")]
        lines.append(f"| {name} | {seconds:.1f} | {rates[0]:.3f} | {rates[1]:.3f} |")
    return lines


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--sizes", default="1,4,16", help="millions of elements, with commas between")
@click.option("--rounds", default=9, show_default=True, help="rounds in which all take turns")
@click.option(
    "--compile/--no-compile", "with_compile", default=True, help="time torch.compile as well (needs g++)"
)
@click.option("--write", is_flag=True, help=f"write {RESULTS.name} in benchmarks/results")
def main(sizes: str, rounds: int, with_compile: bool, write: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    lines = [environment(PACKAGES), "", HEADER]
    click.echo("\n".join(lines))
    compiled = torch.compile(to_mx) if with_compile else None
    races = [gfloat_race(1 << 16)]
    for millions in sizes.split(","):
        n = int(millions) << 20
        for race in [*races, *codec_races(n), *block_races(n, compiled)]:
            new = rows(race, run(race, rounds))
            click.echo("\n".join(new))
            lines += new
        races = []
    if with_compile:
        lines += ["", *compile_lines(int(sizes.split(",")[0]) << 20)]
        click.echo("\n".join(lines[-7:]))
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("# Lecture 1, measured\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
