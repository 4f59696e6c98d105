"""The workflows are valid, call the README's commands and nothing else, and cover what the course promises."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
LEVELS = {"", "ONEDNN_MAX_CPU_ISA=AVX512_CORE", "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"}


def lint(path):
    """GitHub's own schema of workflows, which check-jsonschema carries: no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True)


def jobs(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()


def matrix():
    (job,) = jobs(FOLDER / "test.yml")
    return job["strategy"]["matrix"]["include"]


def split_command(text):
    """(variables set before it, the command itself)."""
    words = text.split()
    settings = [word for word in words if re.fullmatch(r"[A-Z_]+=\w+", word)]
    return " ".join(settings), " ".join(words[len(settings) :])


def test_there_is_one_for_tests_and_one_for_the_newest_versions():
    assert [path.stem for path in WORKFLOWS] == ["canary", "test"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_is_a_valid_workflow(path):
    result = lint(path)
    assert result.returncode == 0, result.stdout


def test_a_wrong_workflow_is_found(tmp_path):
    text = (FOLDER / "test.yml").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace("runs-on:", "run-on:"), encoding="utf-8")
    assert lint(wrong).returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_checks_out_sets_python_up_and_runs_one_command(path):
    for job in jobs(path):
        checkout, python, run = job["steps"]
        assert re.fullmatch(r"actions/checkout@v\d+", checkout["uses"])
        assert re.fullmatch(r"actions/setup-python@v\d+", python["uses"])
        assert list(run) == ["run"]


def test_the_commands_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = {split_command(row["command"])[1] for row in matrix()}
    assert commands == {"make test", "python course.py test"}
    assert all(f"`{command}`" in readme for command in commands)


def test_the_canary_blocks_nothing():
    (job,) = jobs(FOLDER / "canary.yml")
    assert job["continue-on-error"] is True
    assert job["steps"][-1]["run"] == "python course.py test --newest"


def test_every_system_every_python_and_every_level_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = SpecifierSet(project["requires-python"])
    promised = {f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in allowed}
    rows = matrix()
    assert {row["python"] for row in rows} == promised
    assert {row["os"] for row in rows} == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert {split_command(row["command"])[0] for row in rows} == LEVELS


def test_windows_has_no_make():
    for row in matrix():
        assert ("make" in row["command"]) == (row["os"] != "windows-latest")
