"""What was built from what: a digest of everything that a notebook's outputs rest on, kept under build/.

So a second `coursekit build` runs nothing. The stamps are not committed: whether a committed notebook still
holds is found out by running it, and a comment edited in `coursekit` should not make twelve notebooks look
stale.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path


def inputs_digest(source: Path, root: Path) -> str:
    """Over the source, every file of the course it can reach by imports, and the installed versions."""
    digest = hashlib.sha256(source.read_bytes())
    for path in reached_files(source, root):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    digest.update(repr((sys.version, sys.platform, installed_versions())).encode())
    return digest.hexdigest()


def reached_files(source: Path, root: Path) -> list[Path]:
    """Files of coursekit and classroom that `source` imports, directly or not, and the scripts and data beside them."""
    reached, todo = set(), [source]
    while todo:
        for path in imported_files(todo.pop(), root) - reached:
            reached.add(path)
            todo.append(path)
    data = {
        p for path in reached for p in path.parent.iterdir() if p.suffix in {".js", ".css", ".json", ".toml"}
    }
    return sorted(reached | data)


def imported_files(path: Path, root: Path) -> set[Path]:
    """Files of coursekit and classroom that one file imports. IPython's lines (%, !) are no Python: left out."""
    text = "\n".join(
        line for line in path.read_text(encoding="utf-8").splitlines() if line.lstrip()[:1] not in ("%", "!")
    )
    names = [name for node in ast.walk(ast.parse(text)) for name in imported_names(node)]
    candidates = [root / (name.replace(".", "/") + end) for name in names for end in (".py", "/__init__.py")]
    return {candidate for candidate in candidates if candidate.is_file()}


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        names = []
    return [name for name in names if name.split(".")[0] in ("coursekit", "classroom")]


def installed_versions() -> list[str]:
    """Of the environment's own packages: sys.path as a whole changes while a program runs."""
    folders = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    return sorted({f"{package.name}=={package.version}" for package in distributions(path=list(folders))})


class Stamps:
    """The file of stamps: {file: [digest of its inputs, digest of its content]}."""

    def __init__(self, root: Path):
        self.root, self.path = root, root / "build" / "stamps.json"

    def fresh(self, built: Path, inputs: str) -> bool:
        """Whether `built` is there, as it was when it was built from these inputs."""
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
