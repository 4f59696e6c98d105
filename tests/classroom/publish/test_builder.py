import io

import pytest
from rich.console import Console

from classroom.publish import builder, slides
from classroom.publish.kernel import Limits
from classroom.publish.slide_marp import MissingTool
from classroom.publish.sources import all_sources


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


def test_decks_are_built_by_name_and_a_missing_tool_is_only_said(console, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(slides, "deck_paths", lambda: [tmp_path / "01_demo.md", tmp_path / "02_more.md"])
    monkeypatch.setattr(slides, "build", lambda names: asked.append(names) or [])
    for names in ((), ("more",), ("solutions/other",)):
        builder.build_decks(names, console)
    assert asked == [["01_demo", "02_more"], ["02_more"]]

    def without_node(names):
        raise MissingTool("node is not on this machine")

    monkeypatch.setattr(slides, "build", without_node)
    builder.build_decks((), console)
    assert lines(console) == ["slides  not built: node is not on this machine"]
