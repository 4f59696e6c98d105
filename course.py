#!/usr/bin/env python3
"""Set the course up and run it: `python course.py lab`, `python course.py run`, `python course.py test`.

Needs nothing but Python; the Makefile calls this file, so that Windows, macOS and Linux do the same. It makes a
virtual environment in `.venv`, installs what the task needs with the versions of constraints.txt, and starts the
task. A stamp remembers what was installed: the second call takes no time.

This file must be readable by old Pythons (3.6), because its first duty is to tell them so.
"""

import argparse
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
OLDEST, NEWEST = (3, 11), (3, 13)
GB = 10**9
DISK_NEEDED_BYTES = (
    3 * GB
)  # the environment with the CPU build of torch; the CUDA build takes three times as much
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")

# task: the extras of pyproject.toml that it needs
EXTRAS = {"lab": "lab", "run": "lab,publish", "build": "lab,publish", "test": "lab,publish,test"}


class Missing(Exception):
    """Something the task needs is not there; the message says what, the remedy, and what works without it."""


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="course.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("task", choices=["lab", "run", "test", "build", "doctor", "setup"])
    parser.add_argument(
        "--cpu", action="store_true", help="Linux without an NVIDIA GPU: take torch's small CPU build"
    )
    parser.add_argument(
        "--without", default="", metavar="node,browser", help="test what can be tested without these"
    )
    options, rest = parser.parse_known_args(arguments)
    try:
        return TASKS[options.task](options, rest)
    except Missing as problem:
        print(f"\n{problem}\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130


# ---------------------------------------------------------------- what the machine must have


def check_python():
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    wanted = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    found = [name for name in wanted if shutil.which(name)]
    remedy = (
        "There is a {0} on this machine: run  {0} course.py lab  (or  make lab PYTHON={0}).".format(found[0])
        if found
        else "Install Python 3.11, 3.12 or 3.13 (python.org, or your system's packages), then run this again."
    )
    raise Missing(
        f"The course needs Python 3.11 to 3.13; this is Python {sys.version_info[0]}.{sys.version_info[1]}.\n"
        f"{remedy}\nWithout it you can still read the notebooks: they are committed with their results."
    )


def check_venv_module():
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    raise Missing(
        "Python's venv module is missing, which makes the course's own environment.\n"
        "Debian and Ubuntu keep it in a package:  sudo apt install python3-venv  (or python3.11-venv).\n"
        "Without it: make an environment with conda (environment.yml) and call the coursekit command there."
    )


def check_disk(free_bytes):
    if free_bytes >= DISK_NEEDED_BYTES:
        return
    raise Missing(
        f"The course's environment takes about {DISK_NEEDED_BYTES / GB:.0f} GB; {free_bytes / GB:.1f} GB are free on "
        "this disk.\nFree some space, or put the folder of the course on another disk, then run this again."
    )


def missing_tools():
    """The tools that the tests need beyond Python, {marker: how to get it}, only those that are not there."""
    missing = {}
    if not (shutil.which("node") and shutil.which("npm")):
        missing["node"] = "node and npm (nodejs.org, or: sudo apt install nodejs npm) build the slides."
    if not find_chromium():
        missing["browser"] = (
            "Chromium or Chrome (sudo apt install chromium, or set CHROME_PATH) tests slides and widgets."
        )
    return missing


def find_chromium():
    named = os.environ.get("CHROME_PATH")
    return (
        named
        if named and os.path.exists(named)
        else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    )


def check_tools(without):
    missing = {marker: remedy for marker, remedy in missing_tools().items() if marker not in without}
    if missing:
        raise Missing(
            "The tests need what is not on this machine:\n  {}\nLessons, exercises and notebooks work without. "
            "To run all other tests now:  python course.py test --without {}".format(
                "\n  ".join(missing.values()), ",".join(sorted({*missing, *without}))
            )
        )


# ---------------------------------------------------------------- setting up


def set_up(task, cpu=False):
    """Make `.venv` and install what the task needs, unless the stamp says that it is there."""
    check_python()
    python = venv_python()
    if not os.path.exists(python):
        check_venv_module()
        check_disk(shutil.disk_usage(ROOT).free)
        say("Making the course's environment in .venv")
        call([sys.executable, "-m", "venv", VENV], "The environment could not be made.")
    extras = EXTRAS.get(task, "lab")
    if not installed(extras):
        warn_of_cuda(cpu)
        say("Installing the packages of the course (a few minutes the first time)")
        command = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            "constraints.txt",
            "-e",
            f".[{extras}]",
        ]
        call(
            command + (["--extra-index-url", CPU_INDEX] if cpu else []),
            "The packages could not be installed. Setting up needs a network once (and a few GB of disk); after "
            "that the course runs offline. pip's own words are above. Run the same command again: what is there "
            "is kept.",
        )
        write_stamp(extras)
    return python


def warn_of_cuda(cpu):
    if (
        sys.platform.startswith("linux")
        and not cpu
        and not shutil.which("nvidia-smi")
        and not torch_installed()
    ):
        say(
            "No NVIDIA GPU seen. On Linux the torch of PyPI brings several GB of CUDA libraries; to take the small "
            "CPU build instead, stop this with Ctrl-C and run  python course.py lab --cpu"
        )


def torch_installed():
    return bool(glob.glob(os.path.join(VENV, "lib", "python*", "site-packages", "torch")))


def install_node_packages():
    stamp = os.path.join(ROOT, "node_modules", ".package-lock.json")
    lock = os.path.join(ROOT, "package-lock.json")
    if not os.path.exists(stamp) or os.path.getmtime(stamp) < os.path.getmtime(lock):
        say("Installing the slide builder")
        call(
            [shutil.which("npm"), "ci", "--no-audit", "--no-fund", "--silent"],
            "npm could not install the slide builder.",
        )


def venv_python():
    return os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))


def installed(extras):
    """Whether a stamp of today's pyproject.toml and constraints.txt covers these extras."""
    wanted = set(extras.split(","))
    return any(
        wanted <= set(known.split(",")) and read_stamp(known) == digest(known) for known in EXTRAS.values()
    )


def digest(extras):
    content = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            content.update(file.read())
    return content.hexdigest() + " " + extras


def stamp_path(extras):
    return os.path.join(VENV, "installed-" + extras.replace(",", "-"))


def read_stamp(extras):
    path = stamp_path(extras)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return file.read()


def write_stamp(extras):
    with open(stamp_path(extras), "w") as file:
        file.write(digest(extras))


def say(text):
    print("==> " + text, flush=True)


def call(command, trouble):
    if subprocess.call(command, cwd=ROOT) != 0:
        raise Missing(trouble)


# ---------------------------------------------------------------- the tasks


def setup(options, rest):
    set_up("lab", options.cpu)
    return 0


def lab(options, rest):
    python = set_up("lab", options.cpu)
    # Our own notebooks are trusted, or JupyterLab hides their committed figures until each cell is run again.
    notebooks = sorted(glob.glob(os.path.join(ROOT, "*", "[0-9][0-9]_*.ipynb")))
    subprocess.call([python, "-m", "jupyter", "trust", *notebooks], stdout=subprocess.DEVNULL)
    command = [python, "-m", "jupyterlab", "--LabApp.default_url=/lab/tree/notebooks/00_start.ipynb"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return subprocess.call(command + rest, cwd=ROOT)


def run(options, rest):
    return subprocess.call([set_up("run", options.cpu), "-m", "coursekit.cli", "run", *rest], cwd=ROOT)


def build(options, rest):
    python = set_up("build", options.cpu)
    if not missing_tools().get("node"):
        install_node_packages()
    return subprocess.call([python, "-m", "coursekit.cli", "build", *rest], cwd=ROOT)


def doctor(options, rest):
    return subprocess.call([set_up("lab", options.cpu), "-m", "coursekit.cli", "doctor", *rest], cwd=ROOT)


def test(options, rest):
    without = [name for name in options.without.split(",") if name]
    check_tools(without)
    python = set_up("test", options.cpu)
    if "node" not in without:
        install_node_packages()
    markers = " and ".join("not " + name for name in ["gpu", *without])
    status = subprocess.call(
        [python, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-m", markers, *rest], cwd=ROOT
    )
    if shutil.which("nvidia-smi") and status == 0:
        say("A GPU is here: the GPU tests")
        status = subprocess.call([python, "-m", "pytest", "-m", "gpu", *rest], cwd=ROOT)
    return status


TASKS = {"lab": lab, "run": run, "test": test, "build": build, "doctor": doctor, "setup": setup}

if __name__ == "__main__":
    sys.exit(main())
