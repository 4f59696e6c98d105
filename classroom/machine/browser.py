"""Where a browser of Chromium's family is: Chrome, Edge, Chromium, or the small one that `make test` fetches.

Bare Python and the only home of this search: the machine check, the slides and the set-up all ask here. Windows and
macOS put no browser on PATH, so the places where their installers put it are looked up too.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Iterator, Mapping

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)

# The file in the course's environment in which the set-up notes the browser that it has tried.
NOTE = "chromium"

WINDOWS_FOLDERS = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
WINDOWS_PLACES = (
    ("Google", "Chrome", "Application", "chrome.exe"),
    ("Microsoft", "Edge", "Application", "msedge.exe"),
    ("Chromium", "Application", "chrome.exe"),
)
MACOS_APPLICATIONS = ("Google Chrome", "Microsoft Edge", "Chromium")
LINUX_PLACES = (
    "/opt/google/chrome/chrome",
    "/opt/microsoft/msedge/msedge",
    "/usr/lib/chromium/chromium",
    "/snap/bin/chromium",
)


def find_browser() -> str | None:
    """Path of a browser, None if there is none: CHROME_PATH, then the noted one, PATH, the usual places."""
    return next(browsers(), None)


def browsers() -> Iterator[str]:
    """Every browser that was found, the one to prefer first; a path may come twice."""
    for path in (os.environ.get("CHROME_PATH"), noted(), *map(shutil.which, NAMES)):
        if path and os.path.isfile(path):
            yield path
    yield from filter(os.path.isfile, usual_places(sys.platform, os.environ))


def noted() -> str | None:
    """Return the browser that the set-up recorded in this environment, None if it recorded none."""
    try:
        with open(os.path.join(sys.prefix, NOTE), encoding="utf-8") as file:
            return file.read().strip() or None
    except OSError:
        return None


def usual_places(system: str, environment: Mapping[str, str]) -> list[str]:
    """Where installers put a browser on `system` (a value of sys.platform), whether it is there or not."""
    home = environment.get("HOME", "")
    if system == "win32":
        folders = [environment[name] for name in WINDOWS_FOLDERS if environment.get(name)]
        installed = [os.path.join(folder, *place) for place in WINDOWS_PLACES for folder in folders]
        return installed + of_playwright(os.path.join(environment.get("LOCALAPPDATA", ""), "ms-playwright"))
    if system == "darwin":
        folders = ["/Applications", os.path.join(home, "Applications")]
        installed = [
            os.path.join(folder, f"{name}.app", "Contents", "MacOS", name)
            for name in MACOS_APPLICATIONS
            for folder in folders
        ]
        return installed + of_playwright(os.path.join(home, "Library", "Caches", "ms-playwright"))
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return [*LINUX_PLACES, *of_playwright(os.path.join(cache, "ms-playwright"))]


def of_playwright(folder: str) -> list[str]:
    """The headless browsers that `playwright install` left in `folder`, the newest revision first.

    Older revisions call the program headless_shell, newer ones chrome-headless-shell.
    """
    pattern = os.path.join(glob.escape(folder), "chromium_headless_shell-*", "*", "*headless[-_]shell*")
    programs = [path for path in glob.glob(pattern) if os.path.splitext(path)[1] in ("", ".exe")]
    return sorted(programs, key=_revision, reverse=True)


def _revision(path: str) -> int:
    number = os.path.basename(os.path.dirname(os.path.dirname(path))).rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def sandbox_arguments() -> list[str]:
    """What Chromium must be told: it refuses its sandbox to root, as in containers."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
