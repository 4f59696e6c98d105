"""Ours against bitsandbytes', in turns, in one run: half of the benchmark's goal must be there on any machine."""

import time

import bitsandbytes
import torch
from bitsandbytes import functional

from coursekit.optim.adamw8bit import AdamW8bit
from coursekit.quantization.blockwise import dequantize, quantize
from coursekit.quantization.nearest import dynamic_map

N = 1 << 20


def best_times(contestants, rounds=9):
    seconds = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, contestant in contestants.items():
            begin = time.perf_counter()
            contestant()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds


def test_quantize_against_bitsandbytes():
    """Goal: at least 3 times as fast."""
    x, code = torch.randn(N), dynamic_map()
    seconds = best_times(
        {
            "ours": lambda: quantize(x),
            "theirs": lambda: functional.quantize_blockwise(x, code=code, blocksize=256),
        }
    )
    assert seconds["ours"] < 2 * seconds["theirs"] / 3


def test_dequantize_against_bitsandbytes():
    """Goal: at most twice as long; its kernel does all in one pass."""
    codes, absmax = quantize(torch.randn(N))
    code = dynamic_map()
    seconds = best_times(
        {
            "ours": lambda: dequantize(codes, absmax),
            "theirs": lambda: functional.dequantize_blockwise(codes, absmax=absmax, code=code, blocksize=256),
        }
    )
    assert seconds["ours"] < 2 * 2 * seconds["theirs"]


def test_step_against_bitsandbytes():
    """Goal: at least twice as fast."""

    def stepper(kind):
        p = torch.nn.Parameter(torch.randn(N))
        p.grad = torch.randn(N)
        return kind([p]).step

    seconds = best_times({"ours": stepper(AdamW8bit), "theirs": stepper(bitsandbytes.optim.AdamW8bit)})
    assert seconds["ours"] < 2 * seconds["theirs"] / 2
