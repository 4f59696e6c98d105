"""Python's half of the float explorer: its state stays in step, refuses nonsense, and has a still."""

import math
import subprocess
import sys

import pytest
import traitlets

from coursekit.formats.spec import E4M3, FLOATS, FP16
from coursekit.widgets.float_explorer import FloatExplorer


def test_it_opens_on_a_value():
    explorer = FloatExplorer("fp16", 0.1)
    assert (explorer.fmt, explorer.code, explorer.value) == ("FP16", 0x2E66, 0.1)
    assert explorer.stored == 0.0999755859375


def test_a_record_is_as_good_as_a_name():
    assert FloatExplorer(E4M3, 500).code == 0x7F


def test_the_code_follows_format_and_value():
    explorer = FloatExplorer("FP16", 70_000)
    assert math.isinf(explorer.stored)
    explorer.saturate = True
    assert explorer.stored == 65504.0
    explorer.fmt = "E2M1"  # FP16's code has too many bits for it, in between
    assert (explorer.code, explorer.value) == (0b0111, 70_000.0)
    explorer.fmt, explorer.value = "BF16", 1 / 3
    assert explorer.code == 0x3EAB


def test_the_value_follows_the_code():
    explorer = FloatExplorer("FP16", 0.1)
    explorer.code = 0x0001
    assert explorer.value == explorer.stored == 2.0**-24


@pytest.mark.parametrize(
    ("value", "code"), [(-0.0, 0x8000), (0.0, 0), (math.inf, 0x7C00), (math.nan, 0x7E00)]
)
def test_special_values_go_both_ways(value, code):
    explorer = FloatExplorer("FP16", 1.0)
    explorer.value = value
    assert explorer.code == code
    explorer.value = 1.0
    explorer.code = code
    assert repr(explorer.value) == repr(value)


def test_what_the_page_sends_is_taken_as_it_is():
    """Code and value come in one message; a NaN keeps its payload; 1e-7 is JavaScript's spelling."""
    explorer = FloatExplorer("FP16", 1.0)
    explorer.set_state({"code": 0x7C01, "typed": "nan"})
    assert (explorer.code, explorer.typed) == (0x7C01, "nan")
    explorer.set_state({"fmt": "E5M2", "saturate": False, "typed": "1e-7", "code": 0})
    assert (explorer.fmt, explorer.value, explorer.code) == ("E5M2", 1e-7, 0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fmt", "FP17", "did you mean FP16"),
        ("fmt", "INT8", "take one of FP32"),
        ("fmt", "MXFP4", "take one of FP32"),
        ("code", 65536, "lies in 0 to 65535"),
        ("code", -1, "lies in 0 to 65535"),
        ("typed", "one", "expected a number as text"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(name, value, words):
    explorer = FloatExplorer("FP16", 0.1)
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(explorer, name, value)
    assert (explorer.fmt, explorer.code, explorer.value) == ("FP16", 0x2E66, 0.1)


def test_a_reader_without_scripts_gets_text_and_picture():
    data, _ = FloatExplorer("FP16", 0.1)._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    lines = data["text/plain"].splitlines()
    assert lines[0] == "0.1 in FP16: 0 01011 1001100110  code 0x2E66  normal"
    assert [line.split()[0] for line in lines[-len(FLOATS) :]] == [fmt.name for fmt in FLOATS]
    assert '<img style="max-width: 100%" alt="0.1 in FP16: bits 0 01011 1001100110' in data["text/html"]


def test_the_same_state_gives_the_same_bytes_in_every_process():
    """Committed notebooks must not change from run to run: no random id, no address."""
    code = (
        "from coursekit.widgets.float_explorer import FloatExplorer as F; import hashlib; "
        "data, _ = F('FP16', 0.1)._repr_mimebundle_(); "
        "print(hashlib.sha256((data['text/html'] + data['text/plain']).encode()).hexdigest())"
    )
    runs = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}
    assert len(runs) == 1
    assert FloatExplorer("FP16", 0.1).to_html() != FloatExplorer("FP16", 0.2).to_html()


def test_the_page_knows_every_format():
    records = FloatExplorer("FP16", 0.1).formats
    assert [record["name"] for record in records] == [fmt.name for fmt in FLOATS]
    fp16 = next(record for record in records if record["name"] == FP16.name)
    assert (fp16["bits"], fp16["bias"], fp16["specials"], fp16["signed"]) == (16, 15, "ieee", True)
