"""A tiny course in a temporary folder, notebooks made of a few cells, and one headless Chromium."""

import getpass
import os
import tempfile
from pathlib import Path

import nbformat.v4 as v4
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub: no test asks the network

# Code that torch compiled for one level of processor is wrong on another, and its cache does not tell them apart.
LEVEL = "-".join(os.environ.get(name, "native") for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"))
CACHE = Path(tempfile.gettempdir(), f"inductor-{getpass.getuser()}-{LEVEL}")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))

LESSON = """\
# %% [markdown]
# # A lesson

# %% tags=["parameters"]
PROFILE = "ci"
steps = 3

# %% tags=["nbval-check-output"]
print(PROFILE, steps * 2.5)

# %% tags=["volatile"]
import time
print(time.time_ns())

# %%
import ipywidgets
ipywidgets.IntSlider()
"""

EXERCISE = '''\
# %% [markdown]
# Write a function that doubles.

# %%
import json
class check:
    @staticmethod
    def double(function):
        answer = function(4)
        status = "not started" if answer is None else "passed" if answer == 8 else "wrong"
        mistake = "squares" if answer == 16 else None
        record = dict(exercise="double", title="Double it", status=status, passed=answer == 8, misconception=mistake)
        card = f"{status}: expected 8, got {answer}. Hint 1: 4 + 4"
        display({"application/vnd.coursekit.verdict+json": record, "text/plain": card}, raw=True)

# %%
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return x + x  # the secret
    ### END SOLUTION

# %% tags=["points-3"]
check.double(double)
### BEGIN HIDDEN TESTS
assert double(21) == 42
### END HIDDEN TESTS

# %% [markdown] tags=["solution-only"]
# Only a teacher reads this.
'''


def write_course(root: Path) -> Path:
    for name, text in {
        "pyproject.toml": '[project]\nname = "coursekit"\n',
        "notebooks/src/01_demo.py": LESSON,
        "solutions/src/01_demo.py": EXERCISE,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def pytest_collection_modifyitems(items):
    """Notebooks first: they take minutes each, and a long one that starts last leaves the other core idle."""
    items.sort(key=lambda item: "notebooks" not in item.path.parts)


def pytest_terminal_summary(terminalreporter):
    """What each lecture costs in lines (test_budget.py)."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [value for report in reports for name, value in report.user_properties if name == "budget"]
    if rows:
        terminalreporter.section("lines per lecture")
        for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
            terminalreporter.line("".join(f"{value!s:>12}" for value in row.values()))


@pytest.fixture(autouse=True, scope="session")
def models_on_the_cpu():
    """`load` takes the CPU unless a test names a device, on a machine with a GPU too: what is tested is the same."""
    from classroom.models import load

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "default_device", lambda: "cpu")
        yield


@pytest.fixture
def course(tmp_path):
    """The root of a course with one lesson and one exercise; nothing is built."""
    return write_course(tmp_path / "course")


@pytest.fixture(scope="session")
def built_course(tmp_path_factory):
    """A course that is built. Read only: it is shared by all tests of a process."""
    from classroom.publish.builder import build
    from classroom.publish.exercises import build_exercises
    from classroom.publish.sources import all_sources

    root = write_course(tmp_path_factory.mktemp("built") / "course")
    for source in all_sources(root):
        build(source)
    build_exercises(root)
    return root


@pytest.fixture
def copy_of_built(built_course, tmp_path):
    """A built course of a test's own."""
    import shutil

    return Path(shutil.copytree(built_course, tmp_path / "course"))


@pytest.fixture(scope="session")
def notebook_of():
    """notebook_of("a = 1", "print(a)") is a notebook of these code cells."""
    return lambda *cells: v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium per process: `browser.new_page(...)`; close the page, or its context, when done."""
    from playwright.sync_api import sync_playwright

    from classroom.machine.browser import sandbox_arguments
    from classroom.publish.marp import find_chromium

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=sandbox_arguments())
        yield chromium
        chromium.close()
