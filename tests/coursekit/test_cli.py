"""`coursekit plan` in a bare Python; the other commands say what they need. The rest: tests/classroom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bare(*arguments, cwd=ROOT, **environment):
    """The command in a Python without site-packages: only the standard library and the course's own folder."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


def test_the_planner_needs_no_package(tmp_path):
    result = bare(
        "-m", "coursekit.cli", *["plan", "llama-3-8b", "--qlora", "--seq", "512", "--gpu", "24"], cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "8,030,261,248 parameters" in result.stdout and "24 GB (24.0 GB): fits" in result.stdout


def test_json_and_the_lists_need_no_package():
    data = json.loads(bare("-m", "coursekit.cli", "plan", "llama-3-8b", "--json").stdout)
    assert data["parameters"] > 8e9
    listed = bare("-m", "coursekit.cli", "plan", "--list").stdout
    assert "llama-3-8b" in listed and "RTX 4090" in listed


def test_an_encoding_without_the_rules_of_a_table_gets_question_marks():
    result = bare("-m", "coursekit.cli", "plan", "gpt2", "--seq", "512", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "??????" in result.stdout and "peak 1.35 GB" in result.stdout


def test_the_number_core_needs_no_package():
    code = "from coursekit.formats import scalar, spec; print(scalar.decode(0x3C01, spec.FP16))"
    assert bare("-c", code).stdout.strip() == "1.0009765625"


@pytest.mark.parametrize(("arguments", "status"), [(["doctor"], 2), (["--help"], 0), ([], 0)])
def test_the_other_commands_say_how_to_get_them(arguments, status):
    result = bare("-m", "coursekit.cli", *arguments)
    assert result.returncode == status
    assert 'python -m pip install "coursekit[lab]"' in result.stdout + result.stderr
