"""What is logged is what is read: through crashes, NaN and continued files."""

import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.throughput import tracking
from coursekit.throughput.tracking import Jsonl, Record, Tracker, read

NUMBERS = st.dictionaries(
    st.text(),
    st.floats() | st.integers(-(2**60), 2**60),
)


@given(st.integers(0, 2**40), NUMBERS)
def test_a_line_is_strict_json_and_gives_the_record_back(step, values):
    """Every float there is: NaN, infinities, -0.0, subnormals; json itself is the judge of the line."""
    record = Record("numbers", step, values)
    line = tracking.encode(record)
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert "\n" not in line and tracking.decode(line) == record


def test_records_in_order(tmp_path):
    with Tracker(Jsonl(tmp_path / "a" / "run.jsonl")) as tracker:
        tracker.config(rate=1e-3, layers=[1, 2])
        tracker.log(1, loss=torch.tensor(2.5), tokens=7, step=3)
        tracker.log(2, loss=math.nan, norm=math.inf)
        tracker.text("remark", "zwölf\nlines")
    assert read(tmp_path / "a" / "run.jsonl") == [
        Record("config", None, {"rate": 1e-3, "layers": [1, 2]}),
        Record("numbers", 1, {"loss": 2.5, "tokens": 7, "step": 3}),
        Record("numbers", 2, {"loss": math.nan, "norm": math.inf}),
        Record("text", None, {"remark": "zwölf\nlines"}),
    ]


def test_a_file_is_continued(tmp_path):
    for step in (1, 2):
        with Tracker(Jsonl(tmp_path / "run.jsonl")) as tracker:
            tracker.log(step, loss=step / 2)
    assert [record.step for record in read(tmp_path / "run.jsonl")] == [1, 2]


def test_each_record_is_on_disk_before_log_returns(tmp_path):
    """The process is killed without closing anything."""
    code = (
        "import os, sys\nfrom coursekit.throughput.tracking import Jsonl, Tracker\n"
        "t = Tracker(Jsonl(sys.argv[1]))\nt.log(1, loss=1.0)\nt.log(2, loss=2.0)\nos._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.jsonl")])
    assert [record.values["loss"] for record in read(tmp_path / "run.jsonl")] == [1.0, 2.0]


def test_a_crash_at_any_byte_costs_the_last_line_at_most(tmp_path):
    """Cut the file everywhere: what is read is the whole lines, the rest is kept aside, and logging goes on."""
    records = [Record("numbers", n, {"loss": n / 7}) for n in range(1, 4)]
    whole = "".join(tracking.encode(r) + "\n" for r in records).encode()
    for cut in range(len(whole) + 1):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert read(path) == records[:complete]
        with Tracker(Jsonl(path)) as tracker:
            tracker.log(9, loss=9.0)
        assert read(path) == [*records[:complete], Record("numbers", 9, {"loss": 9.0})]
        rest = whole[:cut].rsplit(b"\n", 1)[-1]
        aside = tmp_path / f"{cut}.jsonl.damaged"
        assert (aside.read_bytes() == rest + b"\n") if rest else not aside.exists()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"kind": "numbers", "step": 1, "values": [1]}\n',
        b'{"loss": 1}\n',
        b"\x00\x00\x00",
    ],
)
def test_garbage_at_the_end_is_set_aside(tmp_path, garbage):
    path = tmp_path / "run.jsonl"
    path.write_bytes(tracking.encode(Record("text", None, {"a": "b"})).encode() + b"\n" + garbage)
    assert tracking.set_damage_aside(path) == garbage
    assert len(read(path)) == 1 and tracking.set_damage_aside(path) == b""


def test_damage_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"kind": "numb\n' + tracking.encode(Record("numbers", 1, {})) + "\n")
    for open_it in (read, Jsonl):
        with pytest.raises(ValueError, match=r"line 1 is damaged.*not the last line"):
            open_it(path)


class Broken:
    def write(self, record):
        pass

    def close(self):
        raise OSError("disk full")


class Closing(Broken):
    closed = False

    def close(self):
        self.closed = True


def test_all_backends_are_closed_though_one_fails():
    last = Closing()
    with pytest.raises(OSError, match="disk full"), Tracker(Broken(), last):
        pass
    assert last.closed


@pytest.mark.parametrize("value", ["1.0", None, True, [1.0]])
def test_what_is_no_number_is_refused_and_nothing_is_logged(tmp_path, value):
    with (
        Tracker(Jsonl(tmp_path / "run.jsonl")) as tracker,
        pytest.raises(TypeError, match="loss must be a number"),
    ):
        tracker.log(1, accuracy=1.0, loss=value)
    assert read(tmp_path / "run.jsonl") == []


def test_a_setting_that_json_cannot_hold_is_refused(tmp_path):
    with Tracker(Jsonl(tmp_path / "run.jsonl")) as tracker:
        for value in (object(), math.nan):
            with pytest.raises(TypeError, match="a setting must be text"):
                tracker.config(x=value)
