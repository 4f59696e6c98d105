"""Profiles of work whose shape is known."""

import gzip
import json
import time

import pytest
import torch

from coursekit.throughput.profiling import by_function, code_location, profiled, save_trace, top_operations


@pytest.fixture(scope="module")
def profile():
    x = torch.ones(300, 300)
    return profiled(lambda: (x @ x).exp(), steps=3, warmup=2)


def test_calls_are_those_of_the_counted_steps(profile):
    rows = {row.name: row for row in top_operations(profile, 100)}
    assert rows["aten::mm"].calls == 3 and rows["aten::exp"].calls == 3
    assert [rows[f"step {n}"].calls for n in (1, 2, 3)] == [1, 1, 1]


def test_the_warm_up_is_run_and_not_counted():
    calls = []
    rows = top_operations(profiled(lambda: calls.append(torch.ones(2).exp()), steps=2, warmup=3), 100)
    assert len(calls) == 5 and {row.name: row.calls for row in rows}["aten::exp"] == 2


def test_rows_are_sorted_and_their_shares_add_up(profile):
    rows = top_operations(profile, 100)
    assert [row.seconds for row in rows] == sorted((row.seconds for row in rows), reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert top_operations(profile, 2) == rows[:2]


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_trace_is_chromes_json(tmp_path, name):
    x = torch.ones(8, 8)
    path = save_trace(profiled(lambda: x @ x), tmp_path / name)
    text = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    events = [event for event in json.loads(text)["traceEvents"] if event.get("name") == "aten::mm"]
    assert len(events) == 3 and all(event["ph"] == "X" and event["dur"] >= 0 for event in events)


def test_a_missing_folder_gets_a_sentence(profile, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        save_trace(profile, tmp_path / "nowhere" / "trace.json")


def test_a_trace_is_written_once(tmp_path):
    profile = profiled(lambda: torch.ones(2))
    save_trace(profile, tmp_path / "trace.json")
    with pytest.raises(ValueError, match="Profile anew"):
        save_trace(profile, tmp_path / "again.json")


def nap():
    time.sleep(0.02)


def test_cprofile_finds_who_sleeps():
    rows = by_function(lambda: [nap() for _ in range(3)], 50)
    assert "sleep" in rows[0].name and rows[0].calls == 3 and rows[0].seconds > 0.055
    (mine,) = (row for row in rows if row.name.endswith(" nap"))
    assert mine.calls == 3 and mine.name.startswith("throughput/test_profiling.py:")


def test_the_profiler_stops_if_the_call_raises():
    with pytest.raises(ZeroDivisionError):
        by_function(lambda: 1 / 0)
    assert by_function(nap)


def test_places_hide_the_machine():
    assert code_location("/a/b/c/d.py", 7, "f") == "c/d.py:7 f"
    assert code_location("~", 0, "<built-in>") == "<built-in>"
