"""What was built from what: a digest of everything that outputs depend on, so that a second build runs nothing.

The digest covers the code that runs, every file of the course that it reaches by imports or names in a string, and the
installed versions. A deck keeps its outputs under this digest; a notebook gets a stamp in build/stamps.json. Stamps are
not committed. Whether a committed notebook still holds is found out by running it, and a comment edited in `coursekit`
should not make twelve notebooks look stale.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import classroom

HOUSES = ("coursekit", "classroom")
CODE_SUFFIXES = {".py", ".pyc"}


def inputs_digest(code: str, folder: Path, root: Path) -> str:
    """Return a digest of code that runs in `folder`, every course file it reaches, and the installed versions."""
    digest = hashlib.sha256(code.encode())
    for path in reached_files(code, folder, root):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    digest.update(repr((sys.version, sys.platform, installed_versions())).encode())
    return digest.hexdigest()


def reached_files(code: str, folder: Path, root: Path) -> list[Path]:
    """Return modules of the course that `code` imports, directly or not, data beside them, and the files it names."""
    reached = set()
    todo = imported_files(code, root)
    while todo:
        path = todo.pop()
        reached.add(path)
        todo |= imported_files(path.read_text(encoding="utf-8"), root) - reached
    data = {path for module in reached for path in data_beside(module.parent)}
    return sorted(reached | data | named_files(code, folder, root))


def parsed(code: str) -> ast.Module:
    """Parse the code without IPython's lines (%, !), which are not Python; empty if the rest cannot be parsed.

    Then the code does not run either, and the run says why.
    """
    lines = [line for line in code.splitlines() if line.lstrip()[:1] not in ("%", "!")]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def imported_files(code: str, root: Path) -> set[Path]:
    """Return the files of coursekit and classroom that the code imports."""
    names = [name for node in ast.walk(parsed(code)) for name in imported_names(node)]
    candidates = [root / (name.replace(".", "/") + end) for name in names for end in (".py", "/__init__.py")]
    return {candidate for candidate in candidates if candidate.is_file()}


def imported_names(node: ast.AST) -> list[str]:
    """Return full names that may be modules; behind a name of the front door stands the module that defines it."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if node.module == "classroom":
            names += [classroom.FRONT_DOOR.get(alias.name, "") for alias in node.names]
    return [name for name in names if name.split(".")[0] in HOUSES]


def data_beside(folder: Path) -> Iterator[Path]:
    """Yield the data files in a module's folder, and those in subfolders that contain no code."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix not in CODE_SUFFIXES and not path.name.startswith("."):
            yield path
        elif path.is_dir() and not any(child.suffix in CODE_SUFFIXES for child in path.iterdir()):
            yield from data_beside(path)


def named_files(code: str, folder: Path, root: Path) -> set[Path]:
    """Return files of the course whose path from `folder` is a string in the code: results that a slide shows."""
    strings = {node.value for node in ast.walk(parsed(code)) if isinstance(node, ast.Constant)}
    paths = {(folder / text).resolve() for text in strings if isinstance(text, str) and _like_a_path(text)}
    return {path for path in paths if path.is_relative_to(root.resolve()) and path.is_file()}


def _like_a_path(text: str) -> bool:
    return "/" in text and len(text) < 200 and text.isprintable()


def installed_versions() -> list[str]:
    """Return those of the environment's own packages: sys.path as a whole changes while a program runs."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return sorted(path.name for folder in folders for path in Path(folder).glob("*.dist-info"))


class Stamps:
    """The file of stamps: {file: [digest of its inputs, digest of its content]}."""

    def __init__(self, root: Path):
        self.root = root
        self.path = root / "build" / "stamps.json"

    def fresh(self, built: Path, inputs: str) -> bool:
        """Tell whether `built` is there, as it was when it was built from these inputs."""
        return built.is_file() and self._read().get(self._key(built)) == [inputs, content_digest(built)]

    def record(self, built: Path, inputs: str) -> None:
        stamps = self._read() | {self._key(built): [inputs, content_digest(built)]}
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(stamps, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _key(self, built: Path) -> str:
        return built.relative_to(self.root).as_posix()

    def _read(self) -> dict:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def content_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
