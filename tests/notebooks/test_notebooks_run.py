"""Every notebook, headless: with its own parameters it shows what is committed, with others it runs too.

A notebook is executed once for the first; the tests of one notebook share that run, and pytest-xdist keeps
them together.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coursekit.publish.canonical import refusals
from coursekit.publish.execute import REPRODUCIBLE
from coursekit.publish.kernel import Limits
from coursekit.publish.notebooks import run_source, stale_outputs
from coursekit.publish.parameters import parameters_of
from coursekit.publish.sources import all_sources, read_source
from coursekit.publish.verdicts import verdicts_of
from coursekit.publish.watch import GB

ROOT = Path(__file__).parents[2]
SOURCES = all_sources(ROOT)
LIMITS = Limits(ram_bytes=4 * GB, cell_seconds=120, seconds=180)  # what the course promises of every notebook


def each(sources):
    """Parametrise a test over sources, each in its own group of pytest-xdist."""
    params = [pytest.param(s, id=s.label, marks=pytest.mark.xdist_group(s.label)) for s in sources]
    return pytest.mark.parametrize("source", params)


@functools.cache
def default_run(source):
    return run_source(source, limits=LIMITS)


def other_parameters(source) -> dict:
    """The next larger profile and another seed; where a notebook trains, very few steps, or this would take minutes."""
    known = parameters_of(read_source(source.path))
    others = {"PROFILE": "cpu", "SEED": known.get("SEED", 0) + 1, "STEPS": 6}
    return {name: value for name, value in others.items() if name in known}


@each(SOURCES)
def test_runs_within_its_limits(source):
    assert default_run(source).failure is None


@each(SOURCES)
def test_shows_what_is_committed(source):
    """Figures and text alike; the last digits may differ from processor to processor (publish/compare.py)."""
    assert stale_outputs(source, default_run(source)) == [], f"Put it right:  coursekit build {source.label}"


@each(SOURCES)
def test_shows_nothing_of_the_machine_it_ran_on(source):
    assert refusals(default_run(source).notebook) == []


@each(s for s in SOURCES if s.folder == "notebooks")
def test_runs_with_other_parameters(source):
    assert run_source(source, parameters=other_parameters(source), limits=LIMITS).failure is None


@each(s for s in SOURCES if s.folder == "solutions")
def test_every_solution_passes_its_check(source):
    verdicts = list(verdicts_of(default_run(source).notebook))
    checks = [cell for cell in read_source(source.path).cells if "BEGIN SOLUTION" in cell.source]
    assert len(verdicts) == len(checks) > 0
    assert [verdict["title"] for verdict in verdicts if not verdict["passed"]] == []


def nbval(notebook: Path) -> subprocess.CompletedProcess:
    """Another runner on the committed notebook; it compares the cells tagged nbval-check-output."""
    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-current-env",
    ]
    options = [
        "--nbval-sanitize-with",
        str(Path(__file__).parent / "sanitize.cfg"),
        "--nbval-cell-timeout",
        "120",
    ]
    return subprocess.run(
        [sys.executable, *command, *options, str(notebook)],
        cwd=ROOT,
        env={**os.environ, **REPRODUCIBLE},
        capture_output=True,
        text=True,
    )


@each(s for s in SOURCES if s.folder == "notebooks")
def test_quoted_numbers_hold_for_nbval(source):
    result = nbval(source.built)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


def test_nbval_sees_a_quoted_number_that_no_longer_holds(copy_of_built):
    path = copy_of_built / "notebooks" / "01_demo.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("ci 7.5", "ci 8.5"), encoding="utf-8")
    result = nbval(path)
    assert result.returncode == 1 and "8.5" in result.stdout
