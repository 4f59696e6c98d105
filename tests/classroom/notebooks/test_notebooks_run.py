"""Every notebook runs headless once, judged from every side, and lectures once more with other parameters.

What the course promises of a notebook is counted in seconds of the processor, so that it holds on a busy machine too;
the limits of wall time are a net for a kernel that hangs.
"""

from pathlib import Path

import psutil
import pytest

from classroom.publish.builder import read_built, run_source, stale_outputs
from classroom.publish.canonical import quoted_differences, refusals
from classroom.publish.execute import Run
from classroom.publish.limits import Limits
from classroom.publish.sources import all_sources, parameters_of, read_source
from classroom.publish.verdicts import verdicts_of
from coursekit.units import GB

ROOT = Path(__file__).parents[3]
SOURCES = all_sources(ROOT)
PROMISED_SECONDS = 180  # of one idle core, on the reference machine
COMPILES = ("04_throughput",)  # with a larger profile; its test_experiments.py compiles the same model
NET = Limits(ram_bytes=4 * GB, cell_seconds=1200, seconds=1500)

pytestmark = pytest.mark.timeout(1700)


def each(sources):
    return pytest.mark.parametrize("source", list(sources), ids=lambda source: source.label)


def seconds_of_children() -> float:
    """Return CPU seconds of all processes that this one has started and that have ended; 0 on Windows."""
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def other_parameters(source) -> dict:
    """Return another seed, very few steps, and the next larger profile, unless that compiles a model for minutes."""
    known = parameters_of(read_source(source.path))
    profile = "ci" if source.name in COMPILES else "cpu"
    others = {"PROFILE": profile, "SEED": known.get("SEED", 0) + 1, "STEPS": 6}
    return {name: value for name, value in others.items() if name in known}


@each(SOURCES)
def test_one_run_judged_from_every_side(source, slowness, subtests):
    """It is one test, so that the notebook runs once, whichever process of the tests runs it."""
    before = seconds_of_children()
    run = run_source(source, limits=NET)
    cpu_seconds = seconds_of_children() - before
    with subtests.test("it runs to its end"):
        assert run.failure is None
    with subtests.test("it keeps its three minutes"):
        assert cpu_seconds < PROMISED_SECONDS * slowness
    # figures and text alike; the last digits may differ from processor to processor (publish/canonical.py)
    with subtests.test("it shows what is committed"):
        assert stale_outputs(source, run) == [], f"Build again:  coursekit build {source.label}"
    with subtests.test("it shows nothing of the machine it ran on"):
        assert refusals(run.notebook) == []
    if source.folder == "notebooks":
        with subtests.test("quoted numbers hold to the last digit, seconds and rates aside"):
            assert quoted_differences(run.notebook, read_built(source.built)) == []
    if source.folder == "solutions":
        with subtests.test("every solution passes its check"):
            assert unsolved(source, run) == []


def unsolved(source, run: Run) -> list[str]:
    """Return titles of the exercises whose solution does not pass; every solution must have been checked."""
    verdicts = list(verdicts_of(run.notebook))
    checks = [cell for cell in read_source(source.path).cells if "BEGIN SOLUTION" in cell.source]
    assert len(verdicts) == len(checks) > 0
    return [verdict["title"] for verdict in verdicts if not verdict["passed"]]


@each(s for s in SOURCES if s.folder == "notebooks")
def test_runs_with_other_parameters(source):
    assert run_source(source, parameters=other_parameters(source), limits=NET).failure is None
