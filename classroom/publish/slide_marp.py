"""Marp turns the executed Markdown into HTML, PDF and PowerPoint; this module finds it and runs it.

Node, marp and Chromium are programs of other people that may be missing. Each is looked for before it is
needed, and what is missing is named with its remedy and with what works without it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from classroom.machine.browser import find_browser, sandbox_arguments
from classroom.machine.host import find_tool
from classroom.publish.sources import CourseError

NEEDS_CHROMIUM = {"pdf", "pptx", "png", "handout"}
FLAGS = {
    "html": [],
    "pdf": ["--pdf", "--pdf-notes", "--pdf-outlines"],
    "pptx": ["--pptx"],
    "png": ["--images", "png"],
    "bare": ["--template", "bare"],
}


class MissingTool(CourseError):
    """A program that the slides need is missing; the message has the remedy and what works without."""


def find_chromium() -> str:
    """Path of a browser of Chromium's family; raises MissingTool if there is none."""
    found = find_browser()
    if found is None:
        raise MissingTool(
            "PDF, PowerPoint and handouts of slides are drawn by Chromium, and none was found. Install "
            "chromium or Chrome, or name yours in CHROME_PATH. The HTML deck builds and presents without."
        )
    return found


def find_marp(root: Path) -> list[str]:
    """The command that starts marp: from `root`/node_modules, else from PATH."""
    node = find_tool("node")
    if node is None:
        raise MissingTool(
            "slides are built by marp, which runs on Node.js, and `node` was not found. Install Node.js "
            "20 or later (nodejs.org), then run `npm ci` in the course's folder. Notebooks, exercises and "
            "widgets work without it."
        )
    local = root / "node_modules" / "@marp-team" / "marp-cli" / "marp-cli.js"
    if local.exists():
        return [node, str(local)]
    if found := find_tool("marp"):
        return [found]
    raise MissingTool(
        f"marp was not found in {root / 'node_modules'} or on PATH. Run `npm ci` in the course's folder "
        "(once, it needs the network). Notebooks, exercises and widgets work without it."
    )


def run_marp(markdown: Path, output: Path, kind: str, *, root: Path) -> None:
    """Write `output` from `markdown` with the course's theme; `kind` is a key of FLAGS.

    Raises MissingTool, or CourseError with marp's own words if it fails.
    """
    command = [
        *find_marp(root),
        "--config-file",
        str(root / "slides" / "theme" / "marp.config.mjs"),
        *FLAGS[kind],
    ]
    environment = dict(os.environ)
    if kind in NEEDS_CHROMIUM:
        environment["CHROME_PATH"] = find_chromium()
        if sandbox_arguments():
            environment["CHROME_NO_SANDBOX"] = "1"
    done = subprocess.run(
        [*command, str(markdown), "-o", str(output)],
        cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        encoding="utf-8", errors="replace", timeout=180,
    )  # fmt: skip
    if done.returncode:
        raise CourseError(f"marp could not write {output.name}. It said:\n{done.stderr.strip()}")
