"""What README.md, CONTRIBUTING.md and AGENTS.md tell a reader to type or to open is there and means what they say."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import torch

from classroom.cli import main
from course_setup import checks, tasks

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")
}
README = PAGES["README.md"]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINE_OF_CODE = re.compile(r"`([^`\n]+)`")


def commands():
    """Every command in a block or between backticks, without its comment."""
    lines = [line for language, block in BLOCKS if language != "python" for line in block.splitlines()]
    lines += [found for page in PAGES.values() for found in LINE_OF_CODE.findall(page)]
    return sorted({line.partition(" #")[0].strip() for line in lines})


def starting_with(*words):
    """Their arguments, for commands without dots in place of something."""
    start = " ".join(words) + " "
    found = [line for line in commands() if line.startswith(start) and "..." not in line]
    return [shlex.split(line.removeprefix(start)) for line in found]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_folders_and_files_of_the_course_are_there(page):
    """`coursekit/...`, `dev/...`: a path between backticks, unless it stands for any lecture."""
    names = {path.name for path in ROOT.iterdir()} - {".venv"}
    told = [
        found for found in LINE_OF_CODE.findall(PAGES[page]) if found.split("/")[0] in names and "/" in found
    ]
    fixed = [path for path in told if not re.search(r"word|NN|[* ]|\.\.\.", path) and path != "slides/build/"]
    assert [path for path in fixed if not (ROOT / path).exists()] == []


def test_make_has_every_target_that_is_named():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = {arguments[0] for arguments in starting_with("make")}
    assert {"lab", "test", "run", "doctor"} <= named <= targets


def test_course_py_has_every_task_that_is_named():
    named = {arguments[0] for arguments in starting_with("python", "course.py")}
    assert {"lab", "test", "run", "doctor", "check", "slides", "plan"} <= named
    assert named <= {*tasks.TASKS, *tasks.COURSEKIT}


def test_every_command_of_coursekit_has_the_options_that_are_named():
    """Parsed as the command line parses them, and not run."""
    called = starting_with("python", "course.py") + [line for line in starting_with("coursekit") if line]
    called = [line for line in called if line[0] in main.commands]
    assert len(called) > 6
    for name, *arguments in called:
        with click.Context(main) as parent:
            main.commands[name].make_context(name, list(arguments), parent=parent)


def test_options_of_the_set_up_are_those_that_it_has():
    for arguments in starting_with("python", "course.py", "test"):
        assert tasks.make_parser().parse_known_args(["test", *arguments])[1] == []
    for option in ("--cuda", "--cpu"):
        assert option in README and option in tasks.make_parser().format_help()


def test_the_disk_it_asks_for_is_what_the_set_up_asks_for():
    assert f"{checks.ENVIRONMENT_BYTES // 10**9} GB of free disk" in README
    assert re.search(rf"CUDA libraries\s+add {checks.CUDA_BYTES // 10**9} GB", README)


def test_the_pythons_it_names_are_those_of_the_project():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "Python 3.11, 3.12 or 3.13" in README


def test_colab_installs_an_extra_that_there_is():
    (extra,) = re.findall(r'%pip install -q "\./course\[(\w+)\]"', README)
    assert "git clone -q <this repository's address> course" in README
    assert extra in PROJECT["optional-dependencies"]


def test_its_python_runs():
    """One block after the other, as a reader types them."""
    names = {"x": torch.linspace(-500, 500, 101)}
    blocks = [block for language, block in BLOCKS if language == "python"]
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert names["plan"].model == "llama-3-8b"


@pytest.mark.parametrize("page", PAGES)
def test_lines_can_be_read_in_an_editor(page):
    """Prose of at most 160 characters a line; tables and commands are as long as they are."""
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL).splitlines()
    assert [line for line in prose if len(line) > 160 and not line.startswith("|")] == []
