"""Two executions give the same bytes, and only another result is a difference."""

import copy
import re

import nbformat
import nbformat.v4 as v4
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classroom.publish.canonical import (
    VOLATILE_TEXT,
    WIDGET_VIEW,
    canonical_text,
    differences,
    quoted_differences,
    refusals,
    same,
)


def executed(seed: int):
    """Return a notebook as an execution leaves it; what must not matter depends on the seed."""
    notebook = v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python", "version": f"3.{seed}"},
            "papermill": {"duration": seed / 7},
            "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {f"model{seed}": {}}}},
        }
    )
    stream = v4.new_output("stream", name="stdout", text="12.5\n")
    widget = v4.new_output(
        "display_data", {WIDGET_VIEW: {"model_id": f"model{seed}"}, "text/plain": "Slider"}
    )
    clock = v4.new_output("stream", name="stdout", text=f"{seed} s\n")
    notebook.cells = [
        v4.new_markdown_cell("# One"),
        v4.new_code_cell("print(12.5)", outputs=[stream], execution_count=1),
        v4.new_code_cell("slider", outputs=[widget], execution_count=2),
        v4.new_code_cell("clock()", outputs=[clock], execution_count=3, metadata={"tags": ["volatile"]}),
        v4.new_code_cell(
            "print(12.5)", outputs=[copy.deepcopy(stream)], execution_count=4, metadata={"tags": []}
        ),
    ]
    for cell in notebook.cells:
        cell.metadata["papermill"] = {"duration": seed / 3}
        cell.metadata["execution"] = {"iopub.status.busy": f"2031-01-{seed:02}"}
    return notebook


def test_two_executions_give_the_same_bytes():
    assert canonical_text(executed(11)) == canonical_text(executed(13))


def test_what_was_computed_is_kept():
    notebook = nbformat.reads(canonical_text(executed(11)), as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2, 3, 4]
    assert notebook.cells[1].outputs[0].text == "12.5\n"
    assert notebook.cells[2].outputs[0].data == {"text/plain": "Slider"}
    assert notebook.cells[3].outputs[0].data["text/plain"] == VOLATILE_TEXT
    assert notebook.cells[3].metadata == {"tags": ["volatile"]} and notebook.cells[4].metadata == {}


def test_the_notebook_given_is_not_touched():
    notebook = executed(11)
    before = copy.deepcopy(notebook)
    canonical_text(notebook)
    assert notebook == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["code", "markdown"]), st.text(max_size=12)), max_size=8))
def test_canonical_twice_is_canonical_once_and_ids_are_unique(cells):
    make = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
    text = canonical_text(v4.new_notebook(cells=[make[kind](source) for kind, source in cells]))
    notebook = nbformat.reads(text, as_version=4)
    ids = [cell.id for cell in notebook.cells]
    assert canonical_text(notebook) == text
    assert len(set(ids)) == len(ids)


def test_a_new_cell_leaves_the_ids_of_the_others():
    """A diff then shows only the new cell."""
    old, new = executed(11), executed(11)
    new.cells.insert(1, v4.new_markdown_cell("between"))
    ids_of = [re.findall('"id": "(.*)"', canonical_text(notebook)) for notebook in (old, new)]
    assert ids_of[1][:1] + ids_of[1][2:] == ids_of[0]


@pytest.mark.parametrize(
    "shown, reason",
    [("<function at 0x7f3a12bc9d00>", "address"), (str(nbformat.__file__), "path of this machine")],
)
@pytest.mark.parametrize("kind", ["stream", "text/plain", "text/html"])
def test_what_belongs_to_one_machine_or_run_is_refused(shown, reason, kind):
    if kind == "stream":
        output = v4.new_output("stream", name="stderr", text=shown)
    else:
        output = v4.new_output("display_data", {kind: shown})
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1"), v4.new_code_cell("x", outputs=[output])])
    (sentence,) = refusals(notebook)
    assert sentence.startswith("cell 2 ") and reason in sentence
    notebook.cells[1].metadata["tags"] = ["volatile"]
    assert refusals(notebook) == []


def test_an_ordinary_notebook_is_not_refused():
    assert refusals(executed(11)) == []


def notebook(**changes):
    """Return one cell with one output of each kind; a keyword replaces what one of them shows."""
    shown = {
        "svg": '<svg><path d="M 1.5 2 L 10.25 4"/></svg>',
        "png": "iVBOR",
        "html": "<b>65504</b>",
        "text": "loss 2.3041\n",
    }
    shown |= changes
    outputs = [
        v4.new_output("display_data", {"image/svg+xml": shown["svg"]}),
        v4.new_output("display_data", {"image/png": shown["png"]}),
        v4.new_output("display_data", {"text/html": shown["html"]}),
        v4.new_output("stream", name="stdout", text=shown["text"]),
    ]
    return v4.new_notebook(cells=[v4.new_markdown_cell("# A"), v4.new_code_cell("show()", outputs=outputs)])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"text": "loss 2.3042\n"},
        {"png": "other pixels"},
        {"svg": '<svg><path d="M 1.5001 2.0 L 10.255 4"/></svg>'},
    ],
    ids=str,
)
def test_the_last_digits_of_another_processor_are_no_difference(change):
    assert differences(notebook(**change), notebook()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"text": "loss 2.4041\n"},
        {"text": "lost 2.3041\n"},
        {"text": "loss 2.3041\nmore\n"},
        {"html": "<b>65505</b>"},
        {"html": "<b>65504</b><i>!</i>"},
        {"svg": '<svg><path d="M 1.5 2 L 10.9 4"/></svg>'},
        {"svg": '<svg><path d="M 1.5 2 L 10.25 4" stroke="red"/></svg>'},
    ],
    ids=str,
)
def test_another_result_is_a_difference(change):
    (sentence,) = differences(notebook(**change), notebook())
    assert sentence.startswith("cell 2: ") and "committed" in sentence


@pytest.mark.parametrize(
    "ours, theirs, equal",
    [
        ("5.96e-08", "0.0", False),  # small is not nothing
        ("5.960e-08", "5.961e-08", True),
        ("5.96e-08", "5.98e-08", False),
        ("1000", "1001", False),  # a count is exact
        ("1000.0", "1000.5", True),
        ("nan", "1.0", False),
        ("-1.5", "1.5", False),
    ],
)
def test_numbers_in_a_text(ours, theirs, equal):
    assert same(ours, theirs) is equal


def test_numbers_in_a_drawing():
    assert same("100", "99.9999", drawing=True) and not same("100", "99.9999")


def test_an_output_more_or_less_is_a_difference():
    fresh = notebook()
    del fresh.cells[1].outputs[1]
    assert "committed outputs" in differences(fresh, notebook())[0]


def test_an_edited_cell_tag_or_number_of_cells_is_a_difference():
    for edit in (
        lambda cells: cells[0].update(source="# B"),
        lambda cells: cells[1].metadata.update(tags=["volatile"]),
        lambda cells: cells.append(v4.new_code_cell("more")),
    ):
        fresh = notebook()
        edit(fresh.cells)
        assert len(differences(fresh, notebook())) == 1


def test_volatile_outputs_are_not_compared():
    fresh, committed = notebook(text="1 s"), notebook(text="2 s")
    for each in (fresh, committed):
        each.cells[1].metadata["tags"] = ["volatile"]
    assert differences(fresh, committed) == []
    assert differences(copy.deepcopy(fresh), copy.deepcopy(fresh)) == []


def test_outputs_that_drift_keep_their_kinds_and_may_differ_in_what_they_say():
    fresh, committed = notebook(text="loss 1.09"), notebook(text="loss 1.12")
    for each in (fresh, committed):
        each.cells[1].metadata["tags"] = ["drifts"]
    assert differences(fresh, committed) == []
    del fresh.cells[1].outputs[1]
    assert "committed outputs" in differences(fresh, committed)[0]


@pytest.mark.parametrize(
    ("ours", "theirs", "holds"),
    [
        ("loss 2.3041", "loss 2.3041", True),
        ("loss 2.3041", "loss 2.3042", False),
        ("took 1.2 s at 3.4 GB/s, 0x7f3a12bc", "took 0.9 s at 12 GB/s, 0x7f3b00aa", True),
        ("took 2 steps", "took 3 steps", False),
    ],
)
def test_a_quoted_number_holds_to_the_last_digit_seconds_and_rates_aside(ours, theirs, holds):
    fresh, committed = notebook(text=ours), notebook(text=theirs)
    assert quoted_differences(fresh, committed) == []
    for each in (fresh, committed):
        each.cells[1].metadata["tags"] = ["nbval-check-output"]
    assert quoted_differences(fresh, committed) == ([] if holds else ["show()"])
