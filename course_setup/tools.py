"""Node.js and a browser, which slides and widgets are built and tested with: found on the machine, or fetched.

Each function returns None when the tool is there, else a sentence with what is missing and how to get it; nothing
here ends the course, which works without. What is fetched lies in `.venv` and `node_modules` and goes with them.
"""

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile

from classroom.machine import browser
from course_setup import environment as env
from course_setup.common import call, read, say, write

OLDEST_NODE = 20
NO_NODE = "no Node.js 20 or later: install it from nodejs.org (or: conda install nodejs)"
NO_NODE_PACKAGES = "npm could not install the slide builder: it needs a network once"
NO_BROWSER = (
    "no browser: install Chrome, Edge or Chromium (sudo apt install chromium), or name yours in CHROME_PATH"
)


# ---------------------------------------------------------------- Node.js


def have_node(environment):
    """Put Node.js and npm on PATH, and the packages of package-lock.json into node_modules."""
    trouble = None if node_on_path() else node_from_wheel(environment)
    return trouble or node_packages(environment.root)


def node_on_path():
    """Whether a Node.js that is young enough is on PATH, with npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        return False
    try:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    number = re.match(r"v(\d+)\.", version)
    return bool(number) and int(number.group(1)) >= OLDEST_NODE


def node_from_wheel(environment):
    if not env.installed(environment, ("node",)):
        say(
            "No Node.js 20 or later on this machine: taking the one that pip has, into the course's environment"
        )
    if not env.install_layer(environment, "node"):
        return NO_NODE
    put_first_on_path(environment.scripts)
    return None if node_on_path() else NO_NODE


def put_first_on_path(folder):
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def node_packages(root):
    """Have node_modules as the lock says; the stamp is written when npm has ended well."""
    lock, stamp = (
        os.path.join(root, *names) for names in (("package-lock.json",), ("node_modules", ".course"))
    )
    with open(lock, "rb") as file:
        wanted = hashlib.sha256(file.read()).hexdigest()
    if read(stamp) == wanted:
        return None
    say("Installing the slide builder")
    if call([shutil.which("npm"), "ci", "--no-audit", "--no-fund", "--silent"], cwd=root) != 0:
        return NO_NODE_PACKAGES
    write(stamp, wanted)
    return None


# ---------------------------------------------------------------- a browser


def have_browser(environment):
    """Name a browser that starts in CHROME_PATH: one of this machine, else one that is fetched."""
    note = environment.path(browser.NOTE)
    noted = (read(note) or "").strip()
    if noted and os.path.isfile(noted) and os.environ.get("CHROME_PATH", noted) == noted:
        os.environ["CHROME_PATH"] = noted
        return None
    for way in (installed_browsers, playwrights_browser, npms_browser, apts_browser):
        for path in way(environment):
            if starts(environment, path):
                write(note, path + "\n")
                os.environ["CHROME_PATH"] = path
                return None
    return NO_BROWSER


TRIAL = """
import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=sys.argv[2:], timeout=120_000)
    page = browser.new_page()
    page.set_content("<p>ready</p>")
    assert page.inner_text("p") == "ready"
    browser.close()
"""


def starts(environment, path):
    """Whether playwright can drive this browser: some that are found cannot be (a snap's stub, missing libraries)."""
    return env.runs(environment, "-c", TRIAL, path, *browser.sandbox_arguments())


def installed_browsers(environment):
    return dict.fromkeys(browser.browsers())


def playwrights_browser(environment):
    """The browser that playwright was made for, from its own store; all systems."""
    say("No browser found: asking playwright for its own (about 0.1 GB)")
    folder = environment.path("browser")
    setting = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": folder}
    command = [environment.python, "-m", "playwright"]
    if call([*command, "install", "--only-shell", "chromium"], env=setting, quiet=True) != 0:
        return []
    found = browser.of_playwright(folder)
    if found and is_root() and shutil.which("apt-get") and not starts(environment, found[0]):
        call([*command, "install-deps", "chromium"], env=setting)
    return found


# The package of npm that holds a Chromium for Linux on x86-64, and the hash of npm's own file.
NPM_BROWSER = "@sparticuz/chromium@153.0.0"
NPM_BROWSER_SHA512 = (
    "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
)
UNPACK = """
const fs = require('fs'), [from, to] = process.argv.slice(1)
require('stream').pipeline(fs.createReadStream(from), require('zlib').createBrotliDecompress(),
  fs.createWriteStream(to), error => { if (error) { console.error(error); process.exit(1) } })
"""


def npms_browser(environment):
    """A Chromium from npm, made for servers; first as it is, then with the libraries that it brings."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or not node_on_path():
        return
    folder = environment.path("browser")
    program = os.path.join(folder, "chromium")
    if not os.path.exists(program):
        say("playwright's browser could not be fetched: taking the one that npm has (0.2 GB)")
        if not fetch_npms_browser(folder):
            return
    for libraries in (False, True):
        yield write_starter(folder, libraries)


def fetch_npms_browser(folder):
    """Fetch and unpack into `folder`; the program itself is named last, so that an interrupted start begins anew."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if call([shutil.which("npm"), "pack", NPM_BROWSER, "--silent"], cwd=folder, quiet=True) != 0:
        return False
    (package,) = (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".tgz"))
    with open(package, "rb") as file:
        digest = hashlib.sha512(file.read()).digest()
    if base64.b64encode(digest).decode() != NPM_BROWSER_SHA512:
        say("The browser's package is not the one that was tested: it is not used")
        return False
    unpack_packed(package, folder)
    os.remove(package)
    return True


def unpack_packed(package, folder):
    """From npm's file: libraries, fonts and the program, each compressed with Brotli, which node can read."""
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            if member.name.startswith("package/bin/") and member.isfile():
                with archive.extractfile(member) as source:
                    unpack_brotli(source.read(), os.path.join(folder, os.path.basename(member.name)))
    for name in ("al2023", "swiftshader", "fonts"):
        with tarfile.open(os.path.join(folder, name + ".tar")) as archive:
            # The hash of the whole was checked; Python before 3.11.4 knows no filter.
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        os.remove(os.path.join(folder, name + ".tar"))
    os.chmod(os.path.join(folder, "chromium.unpacked"), 0o755)
    os.replace(os.path.join(folder, "chromium.unpacked"), os.path.join(folder, "chromium"))


def unpack_brotli(content, path):
    with open(path, "wb") as file:
        file.write(content)
    target = path[: -len(".br")] + (".unpacked" if path.endswith("chromium.br") else "")
    call([shutil.which("node"), "-e", UNPACK, path, target])
    os.remove(path)


FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/font-cache</cachedir></fontconfig>
"""


def write_starter(folder, libraries):
    """A script that starts the program with what this machine lacks: its libraries, a font."""
    lines = ["#!/bin/sh"]
    if libraries:
        lines.append(f'export LD_LIBRARY_PATH="{folder}/lib:$LD_LIBRARY_PATH"')
    if not os.path.exists("/etc/fonts/fonts.conf"):
        write(os.path.join(folder, "fonts.conf"), FONTS.format(folder=folder))
        lines.append(f'export FONTCONFIG_FILE="{folder}/fonts.conf"')
    lines.append(f'exec "{folder}/chromium" "$@"')
    starter = os.path.join(folder, "chrome-with-libraries" if libraries else "chrome")
    write(starter, "\n".join(lines) + "\n")
    os.chmod(starter, 0o755)
    return starter


def apts_browser(environment):
    """Debian's Chromium with a font, where we are root, as in containers."""
    if not (is_root() and shutil.which("apt-get")):
        return
    say("Taking Chromium from the system's packages")
    setting = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "update", "-q"], env=setting, quiet=True)
    packages = ["chromium", "fonts-dejavu-core"]
    if call(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], env=setting) == 0:
        yield from browser.browsers()


def is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0
