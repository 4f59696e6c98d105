"""Ours against the peers, in turns, in one run: half of each goal of the benchmark must be there on any machine."""

import importlib.util
import sys
from pathlib import Path

import ml_dtypes
import pytest
import torch

from coursekit.formats import block, tensor
from coursekit.formats.spec import E4M3, MXFP4


@pytest.fixture(scope="module")
def harness():
    path = Path(__file__).parents[2] / "benchmarks" / "harness.py"
    spec = importlib.util.spec_from_file_location("benchmarks_harness", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def race(harness, one_thread):
    """race(ours, peer): how many times the peer's speed ours has, by the best of nine interleaved rounds."""

    def ratio(ours, peer):
        timings = harness.run(harness.Race("a test", 1 << 20, {"ours": ours, "peer": peer}))
        return timings["peer"].minimum / timings["ours"].minimum

    return ratio


def test_round_trip_against_torch(race):
    """Goal 2x."""
    x = torch.randn(1 << 20)
    assert (
        race(lambda: tensor.round_to(x, E4M3, saturate=True), lambda: x.to(torch.float8_e4m3fn).float()) > 1
    )


def test_encode_against_ml_dtypes(race):
    """Goal 5x."""
    x = torch.randn(1 << 20)
    assert race(lambda: tensor.encode(x, E4M3), lambda: x.numpy().astype(ml_dtypes.float8_e4m3fn)) > 2.5


def test_mxfp4_against_torchao(race):
    """Goal 4x, against torchao's eager code."""
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    x = torch.randn(1024, 1024)
    assert race(lambda: block.quantize(x, MXFP4), lambda: to_mx(x, torch.float4_e2m1fn_x2, 32)) > 2


def test_table_says_met_and_missed(harness):
    """The row of a contestant: rate, share of copy_, ratio, goal."""
    contestants = dict.fromkeys(["ours", "slow", "fast", "copy_"])
    race = harness.Race("task", 1 << 20, contestants, {"slow": 2, "fast": 2})
    seconds = {"ours": 1e-3, "slow": 3e-3, "fast": 5e-4, "copy_": 1e-4}
    lines = harness.rows(race, {name: harness.Timing(value, value) for name, value in seconds.items()})
    cells = {line.split("|")[3].strip(): [cell.strip() for cell in line.split("|")[4:-1]] for line in lines}
    assert cells["ours"] == ["1.049", "1.049", "0.10", "", ""]
    assert cells["slow"][3:] == ["3.00x", "2x: met"]
    assert cells["fast"][3:] == ["0.50x", "2x: missed"]
    assert cells["copy_"][2:] == ["1.00", "", ""]
