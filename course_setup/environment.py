"""The course's virtual environment: made whole, mended after an interruption or a move, filled from the lock.

`made` is written when the environment itself is complete, `installed-LAYER` when a layer of packages is: whatever
is interrupted before is done again. The lock is a stack of layers, each with the packages that it adds.
"""

import glob
import hashlib
import os
import shutil
import sys

from course_setup import checks, torch_build
from course_setup.common import NO_PACKAGES, Missing, call, call_with_progress, need, read, say, write

# layers of the lock (lock/NAME.txt); each is an extra of pyproject.toml too
LAB = ("lab",)
PUBLISH = ("lab", "publish")
TEST = ("lab", "publish", "test")


class Environment:
    """Where a virtual environment of the course is; nothing is made yet."""

    def __init__(self, root, name=".venv"):
        self.root = root
        self.folder = os.path.join(root, name)
        self.scripts = os.path.join(self.folder, "Scripts" if os.name == "nt" else "bin")
        self.python = os.path.join(self.scripts, "python.exe" if os.name == "nt" else "python")

    def path(self, name):
        return os.path.join(self.folder, name)

    def pip(self, *arguments):
        """A pip command; it never asks, and keeps quiet about its own newer version."""
        return [self.python, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]

    def site_packages(self):
        pattern = ["Lib"] if os.name == "nt" else ["lib", "python*"]
        return glob.glob(os.path.join(glob.escape(self.folder), *pattern, "site-packages"))


def set_up(environment, layers, build="auto"):
    """Have `environment` with all packages of `layers`; takes no time if they are there.

    build: "cpu" or "cuda" overrules the choice of torch's build; "auto" asks the machine.
    """
    checks.check_system()
    make(environment)
    torch_build.check_wish(environment, build)
    if not installed(environment, layers):
        checks.check_disk(environment.folder, environment.root, torch_build.wants_cuda(environment, build))
        install(environment, layers, build)


# ---------------------------------------------------------------- the environment itself


def identity(environment):
    """What an environment is bound to: the version of Python, and the folder, which stands in its scripts."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}\n{environment.folder}\n"


def make(environment):
    """Have a whole environment of this Python at this place: kept, mended, or made anew."""
    noted, wanted = read(environment.path("made")), identity(environment)
    whole = noted is not None and os.path.exists(environment.python)
    if whole and noted == wanted:
        return
    if whole and os.name != "nt" and noted.partition("\n")[0] == wanted.partition("\n")[0]:
        mend_after_move(environment, noted.split("\n")[1])
    else:
        make_anew(environment)
    write(environment.path("made"), wanted)


def make_anew(environment):
    checks.check_venv_module()
    checks.check_disk(environment.folder, environment.root, with_cuda=False)
    name = os.path.basename(environment.folder)
    if os.path.exists(environment.folder):
        say(f"Making {name} anew: it was interrupted, or belongs to another Python")
        if os.path.exists(environment.path("made")):
            os.remove(environment.path("made"))
    else:
        say(f"Making the course's environment in {name}")
    trouble = (
        f"The environment could not be made. Delete the folder {name} if there is one, then run this again."
    )
    need([sys.executable, "-m", "venv", "--clear", environment.folder], trouble)
    need(environment.pip("--version"), trouble, quiet=True)


def mend_after_move(environment, old_folder):
    """The folder of the course was moved: write the new place where the old one stands. Needs no network."""
    say("The folder of the course was moved: mending its environment")
    need(
        [sys.executable, "-m", "venv", "--without-pip", environment.folder],
        "The environment could not be mended. Delete the folder .venv, then run this again.",
    )
    for path in glob.glob(os.path.join(glob.escape(environment.scripts), "*")):
        replace_interpreter(path, os.fsencode(old_folder), os.fsencode(environment.folder))


def replace_interpreter(path, old, new):
    """Let a script's first line name the Python at its new place; other files stay as they are."""
    if os.path.islink(path) or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        first, rest = file.readline(), file.read()
    if first.startswith(b"#!") and old in first:
        with open(path, "wb") as file:
            file.write(first.replace(old, new) + rest)


# ---------------------------------------------------------------- its packages


def installed(environment, layers):
    """Whether the stamp of each layer is that of today's lock, project and place."""
    return all(read(stamp(environment, layer)) == digest(environment, layer) for layer in layers)


def stamp(environment, layer):
    return environment.path("installed-" + layer)


def lock_path(environment, layer):
    return os.path.join(environment.root, "lock", layer + ".txt")


def digest(environment, layer):
    """What a layer was installed from and for: project, lock, Python, place."""
    content = hashlib.sha256(identity(environment).encode())
    project = os.path.join(environment.root, "pyproject.toml")
    for path in (project, lock_path(environment, layer)):
        with open(path, "rb") as file:
            content.update(file.read())
    return content.hexdigest() + "\n"


def install(environment, layers, build="auto"):
    """Install torch, the locked packages with their hashes checked, then the project itself."""
    say("Installing the packages of the course (some minutes the first time; an interruption does no harm)")
    remove_half_installed(environment)
    torch_build.install(environment, build)
    install_locked(environment, layers)
    install_project(environment, layers)
    for layer in layers:
        write(stamp(environment, layer), digest(environment, layer))


def install_layer(environment, layer):
    """Add one layer to an environment that is set up; returns whether it is there."""
    if not installed(environment, (layer,)):
        command = environment.pip(*locked(environment, (layer,)))
        if call_with_progress(command, environment.folder) != 0:
            return False
        write(stamp(environment, layer), digest(environment, layer))
    return True


def locked(environment, layers):
    files = [part for layer in layers for part in ("-r", lock_path(environment, layer))]
    return ["install", "--require-hashes", "--no-deps", *files]


def install_locked(environment, layers):
    """pip with the lock; where that fails, pip with the pinned versions and whatever builds they have here."""
    if call_with_progress(environment.pip(*locked(environment, layers)), environment.folder) == 0:
        return
    say("The lock could not be installed as it is. Trying the same versions without the check of hashes")
    constraints = os.path.join(environment.root, "constraints.txt")
    project = f"{environment.root}[{','.join(layers)}]"
    command = environment.pip("install", "-c", constraints, "setuptools", "-e", project)
    if call_with_progress(command, environment.folder) != 0:
        raise Missing(NO_PACKAGES)


def install_project(environment, layers):
    """The course's own package, from its folder: what is edited there counts at once."""
    command = ["install", "--quiet", "--no-deps", "--no-build-isolation", "-e", environment.root]
    need(environment.pip(*command), NO_PACKAGES)


def remove_half_installed(environment):
    """Forget packages whose installation was cut off, so that pip installs them again.

    pip writes a package's INSTALLER and RECORD last, but takes METADATA alone for an installed package. Folders whose
    name starts with ~ are those that pip was about to delete.
    """
    for site in environment.site_packages():
        half = [
            folder
            for folder in glob.glob(os.path.join(glob.escape(site), "*.dist-info"))
            if not complete(folder)
        ]
        for folder in half + glob.glob(os.path.join(glob.escape(site), "~*")):
            shutil.rmtree(folder, ignore_errors=True)


def complete(folder):
    names = ("METADATA", "INSTALLER", "RECORD")
    return all(os.path.exists(os.path.join(folder, name)) for name in names)


def runs(environment, *arguments):
    """Whether a Python command of this environment succeeds, without a word."""
    return call([environment.python, *arguments], quiet=True) == 0
