"""The committed notebooks, exercises and decks of a tiny course are built once, and what is stale is named."""

import io

import pytest
from rich.console import Console

from classroom.publish import builder
from classroom.publish.builder import build, check, orphans, stale_text
from classroom.publish.limits import Limits
from classroom.publish.sources import CourseError, all_sources


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def lines(console):
    return console.file.getvalue().splitlines()


def test_a_course_is_built_once_and_then_up_to_date(copy_of_built, console):
    lesson, solution = all_sources(copy_of_built)
    lesson.built.unlink()
    runs = builder.build_notebooks([lesson, solution], console, force=False, limits=Limits())
    assert [run.label for run in runs] == ["notebooks/01_demo"]
    assert builder.check_notebooks([lesson, solution], console, limits=Limits()) == {}
    assert [line.split("  ")[1].split(",")[0] for line in lines(console)] == ["passed", *["up to date"] * 3]


def test_what_is_stale_is_named_with_the_reason(copy_of_built, console):
    lesson, solution = all_sources(copy_of_built)
    solution.path.write_text(solution.path.read_text().replace("Twice x", "x twice"))
    stale = builder.check_notebooks([lesson, solution], console, limits=Limits())
    assert list(stale) == ["solutions/01_demo"] and "written differently" in stale["solutions/01_demo"][0]
    assert builder.check_rest(copy_of_built, console) == [
        "exercises/01_demo.ipynb  STALE; its solution has changed"
    ]
    builder.write_exercises(copy_of_built, console)
    assert builder.check_rest(copy_of_built, console) == []


def lesson(root):
    return all_sources(root)[0]


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_two_builds_give_the_same_bytes(copy_of_built):
    """The lesson prints the time (volatile) and shows a widget, whose model id is random."""
    source = lesson(copy_of_built)
    before = source.built.read_bytes()
    source.built.unlink()
    assert build(source).ok
    assert source.built.read_bytes() == before


def test_what_is_up_to_date_is_not_run_again(copy_of_built, monkeypatch):
    monkeypatch.setattr(builder, "execute", None)
    source = lesson(copy_of_built)
    assert build(source) is None and check(source) == []


def test_an_edited_source_is_stale_and_found_without_running(copy_of_built, monkeypatch):
    monkeypatch.setattr(builder, "execute", None)
    source = lesson(copy_of_built)
    edit(source.path, "# # A lesson", "# # Another lesson")
    assert "cell 1 " in stale_text(source)[0] and check(source) == stale_text(source)


def test_an_edited_notebook_is_stale(copy_of_built):
    source = lesson(copy_of_built)
    edit(source.built, "ci 7.5", "ci 8.5")
    assert stale_text(source) == []  # the cells are still the source's: only running them shows it
    assert check(source) == ["cell 3: stdout: committed '8.5', now '7.5'"]
    edit(source.built, "ci 8.5", "ci 7.5")
    assert check(source) == []


def test_a_notebook_saved_in_the_browser_is_stale(copy_of_built):
    source = lesson(copy_of_built)
    edit(source.built, '"name": "python",', '"name": "python",\n   "version": "3.12.1",')
    assert stale_text(source) == ["it was not written by the build"]


def test_a_notebook_not_built_is_stale(course):
    assert check(lesson(course)) == ["it has not been built"]


def test_a_run_that_fails_writes_nothing(copy_of_built):
    source = lesson(copy_of_built)
    before = source.built.read_bytes()
    edit(source.path, "steps * 2.5", "steps / 0")
    assert build(source).failure.cell == 2
    assert source.built.read_bytes() == before


def test_outputs_that_cannot_be_committed_are_refused(copy_of_built):
    source = lesson(copy_of_built)
    edit(source.path, "print(PROFILE, steps * 2.5)", "import sys; print(sys.prefix)")
    with pytest.raises(
        CourseError, match=r"notebooks/01_demo cannot be committed: cell 2 shows a path of this machine"
    ):
        build(source)


def test_a_notebook_without_source_is_an_orphan(copy_of_built):
    extra = copy_of_built / "notebooks" / "99_gone.ipynb"
    extra.write_text("{}")
    assert orphans(copy_of_built) == [extra]
