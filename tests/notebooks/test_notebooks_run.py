"""Every notebook, headless: executed once, and that run judged from every side; then once more with other parameters.

The tests of one notebook share its run, and pytest-xdist keeps them together. What the course promises of a notebook is
counted in seconds of the processor, so that it holds on a busy machine too; the limits of wall time are a net for a
kernel that hangs.
"""

import configparser
import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from coursekit.publish.canonical import refusals
from coursekit.publish.execute import REPRODUCIBLE, Run
from coursekit.publish.kernel import Limits
from coursekit.publish.notebooks import read_built, run_source, stale_outputs
from coursekit.publish.parameters import parameters_of
from coursekit.publish.sources import all_sources, read_source
from coursekit.publish.verdicts import verdicts_of
from coursekit.publish.watch import GB

ROOT = Path(__file__).parents[2]
SOURCES = all_sources(ROOT)
PROMISED_SECONDS = 180  # of one idle core, on the reference machine
NET = Limits(ram_bytes=4 * GB, cell_seconds=1200, seconds=1500)
QUOTED = "nbval-check-output"

pytestmark = pytest.mark.timeout(1700)


def each(sources):
    """Parametrise a test over sources, each in its own group of pytest-xdist."""
    params = [pytest.param(s, id=s.label, marks=pytest.mark.xdist_group(s.label)) for s in sources]
    return pytest.mark.parametrize("source", params)


class Timed(NamedTuple):
    run: Run
    cpu_seconds: float  # of the kernel and all it started


@functools.cache
def default_run(source) -> Timed:
    before = seconds_of_children()
    run = run_source(source, limits=NET)
    return Timed(run, seconds_of_children() - before)


def seconds_of_children() -> float:
    """CPU seconds of all processes that this one has started and that have ended; 0 on Windows, which does not say."""
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def other_parameters(source) -> dict:
    """The next larger profile and another seed; where a notebook trains, very few steps, or this would take minutes."""
    known = parameters_of(read_source(source.path))
    others = {"PROFILE": "cpu", "SEED": known.get("SEED", 0) + 1, "STEPS": 6}
    return {name: value for name, value in others.items() if name in known}


@each(SOURCES)
def test_runs_to_its_end(source):
    assert default_run(source).run.failure is None


@each(SOURCES)
def test_keeps_its_three_minutes(source, slowness):
    assert default_run(source).cpu_seconds < PROMISED_SECONDS * slowness


@each(SOURCES)
def test_shows_what_is_committed(source):
    """Figures and text alike; the last digits may differ from processor to processor (publish/compare.py)."""
    found = stale_outputs(source, default_run(source).run)
    assert found == [], f"Put it right:  coursekit build {source.label}"


@each(SOURCES)
def test_shows_nothing_of_the_machine_it_ran_on(source):
    assert refusals(default_run(source).run.notebook) == []


@each(s for s in SOURCES if s.folder == "notebooks")
def test_quoted_numbers_hold_to_the_last_digit(source):
    """What text and slides quote is equal character for character, seconds and rates aside."""
    assert different_quotes(default_run(source).run.notebook, read_built(source.built)) == []


@each(s for s in SOURCES if s.folder == "solutions")
def test_every_solution_passes_its_check(source):
    verdicts = list(verdicts_of(default_run(source).run.notebook))
    checks = [cell for cell in read_source(source.path).cells if "BEGIN SOLUTION" in cell.source]
    assert len(verdicts) == len(checks) > 0
    assert [verdict["title"] for verdict in verdicts if not verdict["passed"]] == []


@each(s for s in SOURCES if s.folder == "notebooks")
def test_runs_with_other_parameters(source):
    assert run_source(source, parameters=other_parameters(source), limits=NET).failure is None


# ---------------------------------------------------------------- quoted numbers


def different_quotes(fresh, committed) -> list[str]:
    """The first lines of the quoted cells whose text is not what is committed."""
    pairs = zip(fresh.cells, committed.cells, strict=True)
    return [
        new.source.splitlines()[0]
        for new, old in pairs
        if QUOTED in new.metadata.get("tags", []) and quoted_text(new) != quoted_text(old)
    ]


def quoted_text(cell) -> list[str]:
    """What the cell says in words and numbers; what may differ between two runs is replaced (sanitize.cfg)."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [sanitized(text) for text in texts]


def sanitized(text: str) -> str:
    for pattern, replacement in sanitizers():
        text = re.sub(pattern, replacement, text)
    return text


@functools.cache
def sanitizers() -> list[tuple[str, str]]:
    rules = configparser.RawConfigParser()
    rules.read(Path(__file__).parent / "sanitize.cfg", encoding="utf-8")
    return [(rules[name]["regex"], rules[name]["replace"]) for name in rules.sections()]


def nbval(notebook: Path) -> subprocess.CompletedProcess:
    """Another runner on a committed notebook, with the rules of its own for the same tag."""
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    rules = ["--nbval-sanitize-with", str(Path(__file__).parent / "sanitize.cfg")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *rules, str(notebook)],
        cwd=ROOT,
        env={**os.environ, **REPRODUCIBLE},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("number", ["7.5", "8.5"])
def test_nbval_and_we_judge_a_quoted_number_alike(number, copy_of_built):
    """Right, and then one that no longer holds."""
    path = copy_of_built / "notebooks" / "01_demo.ipynb"
    fresh = read_built(path)
    path.write_text(path.read_text(encoding="utf-8").replace("ci 7.5", f"ci {number}"), encoding="utf-8")
    result = nbval(path)
    ours = different_quotes(fresh, read_built(path))
    assert (result.returncode, len(ours)) == ((0, 0) if number == "7.5" else (1, 1)), result.stdout
