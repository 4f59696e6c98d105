"""The list of what ran: order, dtypes, phases, and the table of it."""

from itertools import groupby

import torch
import torch.nn.functional as F

from coursekit.amp.recorder import Recorder, Row

BF16, FP32 = torch.bfloat16, torch.float32


def test_rows_are_what_ran_in_its_order():
    x, w = torch.ones(2, 3), torch.ones(4, 3)
    with Recorder() as recorder:
        F.linear(x.to(BF16), w.to(BF16))
    assert recorder.rows == [
        Row("_to_copy", (FP32,), (BF16,)),
        Row("_to_copy", (FP32,), (BF16,)),
        Row("t", (BF16,), (BF16,)),
        Row("mm", (BF16, BF16), (BF16,)),
    ]
    assert recorder.casts() == 2


def test_the_backward_has_its_own_phase():
    w = torch.ones(2, 2, requires_grad=True)
    with Recorder() as recorder:
        loss = (torch.ones(2, 2, dtype=BF16) @ w.to(BF16)).sum()
        with recorder.backward():
            loss.backward()
        w.grad + 1
    phases = [phase for phase, _ in groupby(row.phase for row in recorder.rows)]
    assert phases == ["forward", "backward", "forward"]
    assert Row("_to_copy", (BF16,), (FP32,), "backward") in recorder.rows


def test_it_sees_the_casts_of_torch_autocast():
    w = torch.ones(2, 2, requires_grad=True)
    with Recorder() as recorder, torch.autocast("cpu", BF16):
        torch.ones(2, 2) @ w
    assert [row.op for row in recorder.rows] == ["ones", "_to_copy", "_to_copy", "mm"]


def test_operations_without_floats_are_left_out_unless_wanted():
    for floating_only, count in ((True, 0), (False, 1)):
        with Recorder(floating_only=floating_only) as recorder:
            torch.arange(3)
        assert len(recorder.rows) == count


def test_several_outputs_and_lists_are_recorded():
    with Recorder() as recorder:
        torch.cat([torch.ones(2), torch.ones(2, dtype=BF16)]).max(0)
    assert recorder.rows[-2:] == [Row("cat", (FP32, BF16), (FP32,)), Row("max", (FP32,), (FP32, torch.int64))]


def test_the_summary_counts_equal_rows():
    with Recorder() as recorder:
        torch.ones(2).exp().exp()
    lines = recorder.summary().splitlines()
    assert [line.split() for line in lines] == [
        ["phase", "op", "dtypes"],
        ["forward", "ones", "-", "->", "float32", "x1"],
        ["forward", "exp", "float32", "->", "float32", "x2"],
    ]
