"""The house keeps its order: one direction of imports, complete maps, one word per lecture, one lock."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from classroom.lectures import ORDER, number, stem

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = [
    path.parent
    for house in ("coursekit", "classroom")
    for path in sorted((ROOT / house).rglob("__init__.py"))
]
FRONT_DOOR = ROOT / "classroom"  # hands names on, so its __init__ has code below its map
TAUGHT = [word for word in ORDER if word != "start"]


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def run(*command):
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


def test_imports_run_one_way():
    """The contracts of pyproject.toml: floors, exhaustive; bare Python in the number core; no cycles."""
    result = run(
        "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_sources_are_formatted_and_lint_free(command):
    result = run("-m", "ruff", *command, ".")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_opens_with_a_complete_map(package):
    """`__init__.py` is a docstring with one line per module; in coursekit nothing else stands in it."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    assert len(tree.body) == 1 or package.is_relative_to(FRONT_DOOR), "only a docstring"
    lines = ast.get_docstring(tree).split("\n\n")[1].splitlines()
    mapped = {line.split()[0] for line in lines if not line.startswith(" ")}
    modules = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    assert mapped == modules - {"__init__"}


def test_import_is_light():
    """`import coursekit` and the core of the number formats load neither torch nor numpy."""
    heavy = "[name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules]"
    code = f"import sys, coursekit, classroom, coursekit.formats.scalar; print({heavy})"
    assert run("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize("word", TAUGHT)
def test_one_word_per_lecture_everywhere(word):
    lecture = stem(word)
    expected = [
        f"notebooks/src/{lecture}.py",
        f"notebooks/{lecture}.ipynb",
        f"slides/{lecture}.md",
        f"solutions/src/{lecture}.py",
        f"solutions/{lecture}.ipynb",
        f"exercises/{lecture}.ipynb",
        f"coursekit/{word}",
        *(f"classroom/lectures/{word}/{part}.py" for part in ("exercises", "figures", "claims", "benchmark")),
        f"tests/coursekit/{word}",
        f"tests/classroom/lectures/{word}",
    ]
    assert [name for name in expected if not (ROOT / name).exists()] == []


def test_the_order_of_lectures_is_in_one_place():
    """Every numbered file has the number that its word has in ORDER."""
    files = [
        path for path in tracked("notebooks", "slides", "solutions", "exercises") if path.stem[:1].isdigit()
    ]
    assert {path.stem for path in files} == set(map(stem, ORDER))
    with pytest.raises(ValueError, match="no lecture is called 'loar'; there are start, formats"):
        number("loar")


# lectures' parts that are run by hand, or by one test for all lectures
TESTED_ELSEWHERE = {"__init__", "benchmark", "planner_benchmark", "claims"}


def test_every_module_has_its_test():
    """test_module.py for every module.py, in the folder of the same name below tests/ or in one for all lectures."""
    modules = [path for house in ("coursekit", "classroom") for path in (ROOT / house).rglob("*.py")]
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    wanted = [path for path in modules if path.stem not in TESTED_ELSEWHERE]
    assert [str(path) for path in wanted if f"test_{path.stem}.py" not in tests] == []


def requirements():
    extras = PROJECT["optional-dependencies"].values()
    return [
        Requirement(text)
        for text in [*PROJECT["dependencies"], *(text for group in extras for text in group)]
        if not text.startswith("coursekit[")  # an extra that has another's packages too
    ]


def test_the_lock_pins_every_dependency_within_its_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): Version(version) for name, version in pins.items()}
    assert all(pins[canonicalize_name(r.name)] in r.specifier for r in requirements())


def test_environment_yml_holds_what_pyproject_holds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert {re.split("[=<>]", entry)[0] for entry in conda} == {"python", "pip", "git", "nodejs"}
    python = next(entry.split("=")[1] for entry in conda if entry.startswith("python="))
    assert PROJECT["requires-python"] == f">={python},<3.14"
    assert pip == ["-c constraints.txt", "-e .[all]"]
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == ["coursekit[lab,publish,test]"]  # not `node`: conda has Node.js itself


def test_ci_calls_the_test_command_of_the_readme():
    readme, ci = (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        (ROOT / ".ci" / "run").read_text(encoding="utf-8"),
    )
    (command,) = (line for line in ci.splitlines() if line.startswith("make "))
    assert "`make test`" in readme and command == 'make test ARGS="--need node,browser"'


def test_no_path_of_a_machine_is_committed():
    """Executed notebooks and tables are the places where one slips in."""
    home = re.compile(rb"(?<![\w.])/(home|root|Users|tmp|work)/\w")
    texts = [
        path
        for path in tracked()
        if path.suffix in {".ipynb", ".md", ".py", ".toml", ".yml", ".json", ".css", ".js"}
    ]
    assert [str(path) for path in texts if path != Path(__file__) and home.search(path.read_bytes())] == []


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert str(citation["version"]) == PROJECT["version"]
    assert f"## {PROJECT['version']}" in changelog
