import pytest

from classroom.publish.parameters import parameters_of, parse_value, refuse_unknown, with_parameters
from classroom.publish.sources import CourseError


@pytest.fixture
def notebook(notebook_of):
    made = notebook_of('PROFILE = "ci"\nsteps = 3\nhalf = steps / 2', "print(PROFILE)")
    made.cells[0].metadata["tags"] = ["parameters"]
    return made


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("True", True),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ("'3'", "3"),
        ("tiny", "tiny"),
        ("a/b-1", "a/b-1"),
    ],
)
def test_values_of_the_command_line(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


def test_parameters_and_their_defaults(notebook, notebook_of):
    assert parameters_of(notebook) == {"PROFILE": "ci", "steps": 3, "half": None}
    assert parameters_of(notebook_of("x = 1")) == {}


def test_values_go_into_a_cell_after_the_defaults(notebook):
    given = with_parameters(notebook, {"PROFILE": "cpu"})
    assert [cell.source.strip().splitlines()[-1] for cell in given.cells] == [
        "half = steps / 2",
        'PROFILE = "cpu"',
        "print(PROFILE)",
    ]
    assert len(notebook.cells) == 2


def test_no_values_change_nothing(notebook):
    assert with_parameters(notebook, {}) == notebook


def test_an_unknown_parameter_is_refused_with_the_nearest(notebook):
    with pytest.raises(CourseError, match=r"'profile'. There are: PROFILE, half, steps"):
        with_parameters(notebook, {"profile": "cpu"})
    with pytest.raises(CourseError, match=r"Did you mean steps\?"):
        refuse_unknown({"step": 1}, {"steps", "PROFILE"})
