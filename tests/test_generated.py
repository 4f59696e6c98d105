"""Nothing that is generated was edited or left behind. tests/classroom/notebooks tests what the notebooks show."""

import ast
from pathlib import Path

import pytest

from classroom.publish.builder import orphans, stale_text
from classroom.publish.exercises import stale_exercises
from classroom.publish.sources import PROFILES, all_sources, parameters_of, read_source

ROOT = Path(__file__).parents[1]
SOURCES = all_sources(ROOT)
FIX = "Build again:  coursekit build"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.label)
def test_the_committed_notebook_has_the_cells_of_its_source(source):
    assert stale_text(source) == [], f"{FIX} {source.label}"


def test_exercises_are_what_their_solutions_give():
    assert stale_exercises(ROOT) == [], FIX


def test_every_committed_notebook_has_a_source():
    assert orphans(ROOT) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.label)
def test_every_notebook_takes_a_profile_and_opens_as_committed_with_ci(source):
    assert parameters_of(read_source(source.path)).get("PROFILE") == "ci"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.label)
def test_sizes_are_given_for_every_profile(source):
    """`{"ci": 1, "cpu": 2, "gpu": 3}[PROFILE]`: a key that is missing would only show with that profile."""
    code = [cell.source for cell in read_source(source.path).cells if cell.cell_type == "code"]
    lookups = [node for cell in code for node in ast.walk(ast.parse(cell)) if by_profile(node)]
    assert [ast.unparse(node) for node in lookups if ast_keys(node.value) != PROFILES] == []


def by_profile(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "PROFILE"


def ast_keys(table: ast.Dict) -> tuple:
    return tuple(ast.literal_eval(key) for key in table.keys)
