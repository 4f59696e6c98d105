"""Node.js and a browser are found, or fetched by the first way that works; what is missing is a sentence."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from classroom.machine import browser
from course_setup import tools


@pytest.fixture
def machine(environment, monkeypatch, tmp_path):
    """A machine with nothing on PATH; returns a folder to put programs into that PATH names."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CHROME_PATH", raising=False)
    monkeypatch.setattr(browser, "browsers", lambda: iter([]))
    os.makedirs(environment.folder)
    return folder


def put(path, text="#!/bin/sh\n"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return str(path)


# ---------------------------------------------------------------- Node.js


@pytest.mark.parametrize(
    ("version", "enough"), [("v20.1.0", True), ("v26.13.1", True), ("v18.20.4", False), ("nonsense", False)]
)
def test_node_has_to_be_young_enough(machine, monkeypatch, version, enough):
    """Debian 12 has 18, with which marp and the browser's package do not run."""
    monkeypatch.setattr(tools.shutil, "which", lambda name: name)
    answer = tools.subprocess.CompletedProcess([], 0, stdout=version)
    monkeypatch.setattr(tools.subprocess, "run", lambda *_, **__: answer)
    assert tools.node_on_path() == enough


def test_without_node_the_wheel_is_taken_and_comes_first_on_path(machine, environment, calls, monkeypatch):
    found = iter([False, True])
    monkeypatch.setattr(tools, "node_on_path", lambda: next(found))
    monkeypatch.setattr(tools, "node_packages", lambda root: None)
    assert tools.have_node(environment) is None
    (command,) = calls
    assert any(word.endswith("node.txt") for word in command) and "--require-hashes" in command
    assert os.environ["PATH"].split(os.pathsep)[0] == environment.scripts


def test_node_that_cannot_be_had_is_a_sentence(machine, environment, calls):
    calls.fails = lambda command: True
    assert tools.have_node(environment) == tools.NO_NODE


def test_node_packages_are_installed_once_for_each_lock(root, calls, monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda name: name)
    (root / "node_modules").mkdir()
    assert tools.node_packages(str(root)) is None and tools.node_packages(str(root)) is None
    assert len(calls) == 1
    (root / "package-lock.json").write_text("{}", encoding="utf-8")
    tools.node_packages(str(root))
    assert len(calls) == 2


def test_an_interrupted_npm_is_begun_again(root, calls, monkeypatch):
    """The stamp is written when npm has ended well, and npm deletes it with node_modules when it begins."""
    monkeypatch.setattr(tools.shutil, "which", lambda name: name)
    (root / "node_modules").mkdir()
    calls.fails = lambda command: True
    assert tools.node_packages(str(root)) == tools.NO_NODE_PACKAGES
    calls.fails = lambda command: False
    assert tools.node_packages(str(root)) is None and len(calls) == 2


# ---------------------------------------------------------------- a browser


ORDER = ["installed_browsers", "playwrights_browser", "npms_browser", "apts_browser"]


@pytest.fixture
def ways(machine, monkeypatch):
    """Four ways that find a browser each, and the list of those that do not start."""
    broken = []
    for name in ORDER:
        path = put(machine / name)
        monkeypatch.setattr(tools, name, lambda environment, path=path: [path])
    monkeypatch.setattr(tools, "starts", lambda environment, path: os.path.basename(path) not in broken)
    return broken


@pytest.mark.parametrize("broken", range(5))
def test_the_first_browser_that_starts_is_taken(environment, ways, broken):
    ways.extend(ORDER[:broken])
    trouble = tools.have_browser(environment)
    if broken == 4:
        assert trouble == tools.NO_BROWSER
    else:
        assert trouble is None and os.path.basename(os.environ["CHROME_PATH"]) == ORDER[broken]


def test_the_browser_is_noted_where_the_course_looks_for_it(environment, ways, monkeypatch):
    tools.have_browser(environment)
    found = os.environ.pop("CHROME_PATH")
    monkeypatch.setattr(browser.sys, "prefix", environment.folder)
    assert browser.noted() == found
    ways.extend(ORDER)  # it is not tried a second time
    assert tools.have_browser(environment) is None and os.environ["CHROME_PATH"] == found


def test_a_noted_browser_that_is_gone_is_looked_for_again(environment, ways):
    tools.have_browser(environment)
    os.remove(os.environ.pop("CHROME_PATH"))
    ways.append(ORDER[0])
    assert tools.have_browser(environment) is None
    assert os.path.basename(os.environ["CHROME_PATH"]) == ORDER[1]


def test_playwrights_browser_is_found_where_it_was_put(environment, machine, calls, monkeypatch):
    monkeypatch.setattr(tools, "starts", lambda environment, path: True)
    there = put(
        os.path.join(environment.folder, "browser", "chromium_headless_shell-1", "c", "headless_shell")
    )
    assert tools.playwrights_browser(environment) == [there]
    assert calls.containing("playwright", "install", "--only-shell", "chromium")
    calls.fails = lambda command: True
    assert tools.playwrights_browser(environment) == []


@pytest.mark.parametrize("where", [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "aarch64")])
def test_npms_browser_is_for_linux_on_x86_64(environment, machine, calls, monkeypatch, where):
    monkeypatch.setattr(tools.sys, "platform", where[0])
    monkeypatch.setattr(tools.platform, "machine", lambda: where[1])
    assert list(tools.npms_browser(environment)) == [] and calls == []


def test_a_package_with_another_hash_is_not_used(environment, machine, monkeypatch, capsys):
    folder = os.path.join(environment.folder, "browser")

    def pack(command, cwd, **options):
        put(os.path.join(cwd, "other.tgz"), "not what was tested")
        return 0

    monkeypatch.setattr(tools, "call", pack)
    assert not tools.fetch_npms_browser(folder)
    assert "not the one that was tested" in capsys.readouterr().out


@pytest.mark.node
def test_a_packed_browser_is_unpacked_whole(tmp_path, monkeypatch):
    """The program gets its name last: where it stands, all that it needs stands beside it."""
    package = make_package(tmp_path)
    folder = tmp_path / "a folder" / "browser"
    folder.mkdir(parents=True)
    tools.unpack_packed(package, str(folder))
    assert (folder / "chromium").read_bytes() == b"the program" and os.access(folder / "chromium", os.X_OK)
    assert (folder / "lib" / "libnss3.so").exists() and (folder / "fonts" / "a.ttf").exists()
    assert not [path for path in folder.iterdir() if path.suffix in (".br", ".tar", ".unpacked")]


def make_package(folder):
    """A package as npm's, in miniature: three archives and a program, each packed by node with Brotli."""
    parts = {"al2023": "lib/libnss3.so", "swiftshader": "libEGL.so", "fonts": "fonts/a.ttf"}
    for name, inside in parts.items():
        (folder / "inside").write_bytes(b"content")
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            archive.add(folder / "inside", inside)
    (folder / "chromium").write_bytes(b"the program")
    code = (
        "const fs = require('fs'), z = require('zlib');"
        "for (const f of process.argv.slice(1)) fs.writeFileSync(f + '.br', z.brotliCompressSync(fs.readFileSync(f)))"
    )
    files = [str(folder / name) for name in ("al2023.tar", "swiftshader.tar", "fonts.tar", "chromium")]
    subprocess.run([shutil.which("node"), "-e", code, *files], check=True)
    with tarfile.open(folder / "package.tgz", "w:gz") as archive:
        for path in files:
            archive.add(path + ".br", f"package/bin/{os.path.basename(path)}.br")
    return str(folder / "package.tgz")


@pytest.mark.parametrize("libraries", [False, True])
def test_the_starter_hands_all_words_on(tmp_path, libraries, monkeypatch):
    """A path with a space and words with a space arrive as they were; the libraries come only where asked for."""
    folder = tmp_path / "a folder"
    program = put(folder / "chromium", '#!/bin/sh\nprintf "%s|" "$LD_LIBRARY_PATH" "$@"\n')
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    starter = tools.write_starter(str(folder), libraries)
    text = Path(starter).read_text(encoding="utf-8")
    assert ("LD_LIBRARY_PATH" in text) == libraries and f'exec "{program}" "$@"' in text
    if sys.platform.startswith("linux"):  # the only system that it is for
        done = tools.subprocess.run([starter, "--a b", "c"], capture_output=True, text=True)
        assert done.stdout == (f"{folder}/lib:" if libraries else "") + "|--a b|c|"


def test_apt_is_asked_by_root_only(environment, machine, calls, monkeypatch):
    put(machine / "apt-get")
    put(machine / "apt-get.exe")
    monkeypatch.setattr(tools, "is_root", lambda: False)
    assert list(tools.apts_browser(environment)) == [] and calls == []
    monkeypatch.setattr(tools, "is_root", lambda: True)
    monkeypatch.setattr(browser, "browsers", lambda: iter(["found"]))
    assert list(tools.apts_browser(environment)) == ["found"]
    assert calls.containing("install", "chromium", "fonts-dejavu-core")
