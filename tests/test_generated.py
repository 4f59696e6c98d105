"""Nothing that is generated was edited or left behind. tests/notebooks holds what the notebooks show."""

from pathlib import Path

import pytest

from classroom.publish.builder import orphans, stale_text
from classroom.publish.exercises import stale_exercises
from classroom.publish.sources import all_sources, parameters_of, read_source

ROOT = Path(__file__).parents[1]
SOURCES = all_sources(ROOT)
FIX = "Put it right:  coursekit build"


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
