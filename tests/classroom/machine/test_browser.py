"""A browser is found where each system puts it, not only on PATH."""

import os

import pytest

from classroom.machine import browser


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without a browser: nothing on PATH, nothing noted, no usual place filled."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME_PATH", raising=False)
    monkeypatch.setattr(browser.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(browser, "usual_places", lambda system, environment: [])
    return tmp_path


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o755)
    return str(path)


def test_none_is_found_where_none_is(bare_machine):
    assert browser.find_browser() is None


def test_the_order_is_named_noted_on_path_installed(bare_machine, monkeypatch):
    """CHROME_PATH wins; a path that is gone is passed over, wherever it stands."""
    named, noted = put(bare_machine / "named"), put(bare_machine / "noted")
    on_path, installed = put(bare_machine / browser.NAMES[0]), put(bare_machine / "installed")
    note = bare_machine / "prefix" / browser.NOTE
    put(note)
    note.write_text(noted + "\n", encoding="utf-8")
    monkeypatch.setattr(browser.sys, "prefix", str(note.parent))
    monkeypatch.setattr(browser, "usual_places", lambda system, environment: [installed, "/gone"])
    monkeypatch.setenv("CHROME_PATH", named)
    assert list(browser.browsers()) == [named, noted, on_path, installed]
    for path in (named, noted, on_path, installed):
        assert browser.find_browser() == path
        os.remove(path)
    assert browser.find_browser() is None


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("win32", {"PROGRAMFILES(X86)": "E"}, os.path.join("E", "Microsoft", "Edge", "Application", "msedge.exe")),
        ("win32", {"LOCALAPPDATA": "L"}, os.path.join("L", "Google", "Chrome", "Application", "chrome.exe")),
        ("darwin", {}, "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
        ("darwin", {"HOME": "/h"}, "/h/Applications/Chromium.app/Contents/MacOS/Chromium"),
        ("linux", {}, "/opt/google/chrome/chrome"),
    ],
)  # fmt: skip
def test_the_places_of_each_system(system, environment, expected):
    assert expected in browser.usual_places(system, environment)


@pytest.mark.parametrize(
    ("system", "variable", "cache"),
    [
        ("linux", "HOME", ".cache/ms-playwright"),
        ("darwin", "HOME", "Library/Caches/ms-playwright"),
        ("win32", "LOCALAPPDATA", "ms-playwright"),
    ],
)
def test_playwrights_own_browser_is_found_the_newest_first(tmp_path, system, variable, cache):
    old = put(tmp_path / cache / "chromium_headless_shell-999" / "chrome-linux" / "headless_shell")
    new = put(tmp_path / cache / "chromium_headless_shell-1255" / "c" / "chrome-headless-shell.exe")
    put(tmp_path / cache / "chromium_headless_shell-1255" / "c" / "headless_shell.pak")
    found = [p for p in browser.usual_places(system, {variable: str(tmp_path)}) if "headless" in p]
    assert found == [new, old]
