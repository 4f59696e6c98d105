import copy

import nbformat.v4 as v4
import pytest

from classroom.publish.compare import differences, same


def notebook(**changes):
    """One cell with one output of each kind; a keyword replaces what one of them shows."""
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
    assert "committed are the outputs" in differences(fresh, notebook())[0]


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
    assert "committed are the outputs" in differences(fresh, committed)[0]
