"""Sources are found, names mean what they say, a source reads as a notebook and takes its parameters."""

import pytest

from classroom.checking.outline import Outline
from classroom.publish import sources
from classroom.publish.sources import (
    CourseError,
    all_sources,
    find_root,
    parameters_of,
    parse_value,
    pick,
    read_source,
    refuse_unknown,
    with_headings,
    with_parameters,
)


def test_root_is_found_from_any_folder_below(course):
    assert find_root(course / "notebooks" / "src") == course


def test_outside_the_course_the_folder_of_the_package_is_the_root(tmp_path):
    root = find_root(tmp_path)
    assert (root / "classroom" / "publish" / "sources.py").samefile(sources.__file__)


def test_no_course_anywhere_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sources, "__file__", str(tmp_path / "site-packages" / "classroom" / "publish" / "sources.py")
    )
    with pytest.raises(CourseError, match="Change to your clone"):
        find_root(tmp_path)


def test_another_project_is_not_the_course(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert not sources.is_root(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[project", b"\xff\xfe", b"[project]\nname = 3"], ids=["cut", "binary", "number"]
)
def test_a_broken_pyproject_in_a_folder_above_is_passed_over(course, tmp_path, content):
    (tmp_path / "pyproject.toml").write_bytes(content)
    assert not sources.is_root(tmp_path)
    assert find_root(course / "notebooks") == course


@pytest.mark.parametrize("name", ["01_demo", "01", "1", "demo", "01_demo.py", "01_demo.ipynb"])
def test_a_name_means_lesson_and_solution(course, name):
    assert [s.label for s in pick(all_sources(course), (name,))] == ["notebooks/01_demo", "solutions/01_demo"]


@pytest.mark.parametrize(
    "name",
    [
        "solutions",
        "solutions/",
        "solutions/01_demo",
        "solutions/demo",
        "./solutions/src/01_demo.py",
        "solutions\\01_demo.ipynb",
    ],
)
def test_a_path_means_one(course, name):
    assert [s.label for s in pick(all_sources(course), (name,))] == ["solutions/01_demo"]


def test_no_name_means_all(course):
    assert len(pick(all_sources(course), ())) == 2


def test_an_unknown_name_gets_the_nearest(course):
    with pytest.raises(CourseError, match=r"no notebook 'deno'. Did you mean 01_demo\?"):
        pick(all_sources(course), ("demo", "deno"))


def test_a_name_like_nothing_gets_the_list(course):
    with pytest.raises(CourseError, match="There are: 01_demo"):
        pick(all_sources(course), ("zzz",))


def test_a_source_reads_as_a_notebook_that_jupyterlab_opens_without_asking(course):
    notebook = read_source(course / "notebooks" / "src" / "01_demo.py")
    assert notebook.metadata == {"kernelspec": sources.KERNELSPEC}
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", *["code"] * 4]
    assert notebook.cells[1].metadata == {"tags": ["parameters"]}


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


OUTLINES = [Outline("double", "Twice", 5), Outline("halve", "Half as much", 10)]


def test_headings_of_a_solution_are_filled_in_and_counted():
    text = "# ## {halve}\n#\n# *About {minutes} minutes for all.*\n\n# ## {double}\n"
    filled = (
        "# ## 1. Half as much (10 minutes)\n#\n# *About 15 minutes for all.*\n\n# ## 2. Twice (5 minutes)\n"
    )
    assert with_headings(text, OUTLINES) == filled


def test_a_heading_without_an_exercise_is_said():
    with pytest.raises(CourseError, match="has a heading for 'treble'; there are exercises double, halve"):
        with_headings("# ## {treble}\n", OUTLINES)


def test_braces_of_code_stay():
    text = 'print(f"## {double}, {minutes} minutes")\n'
    assert with_headings(text, OUTLINES) == text
