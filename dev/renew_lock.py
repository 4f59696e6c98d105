"""Renew the lock: `python dev/renew_lock.py`, or `... --upgrade` for the newest versions. Needs the network.

Writes lock/*.txt (every package for Linux, macOS and Windows, Python 3.11 to 3.13, with the hashes of its files) and
constraints.txt (the same versions without hashes, for Colab, conda and other ways to install). The lock is a stack of
layers, one for each extra that a task needs: a layer holds what it adds to those before it.

torch stays outside of the lock, with the CUDA libraries that only its CUDA build needs: its builds have one version and
different hashes. constraints.txt pins its version, and course_setup/torch_build.py chooses the build.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = "uv==0.13.9"
LAYERS = ("lab", "publish", "test", "node")  # in the order in which they are stacked
OUTSIDE = re.compile(r"torch==|triton==|cuda-|nvidia-(?!ml-py)|.*sys_platform == 'emscripten'")

# What the compiler has to know beyond pyproject.toml, each with its reason.
HELD = """\
setuptools>=77  # builds the course's own package without a network
soupsieve<3  # later ones refuse the Python 3.11.2 of Debian 12
"""

HEAD = """\
# The lock, layer "{layer}": written by dev/renew_lock.py. For Python 3.11 to 3.13 on Linux, macOS and Windows.
"""

CONSTRAINTS_HEAD = """\
# The versions that were tested together, for `pip install -c`: Colab, conda and what cannot use the lock (lock/*.txt,
# the same with hashes). Written by dev/renew_lock.py; pyproject.toml holds the lower bounds.
"""


def main():
    upgrade = "--upgrade" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        uv = install_uv(Path(folder))
        compiled = [
            compile_layers(uv, Path(folder), LAYERS[: count + 1], upgrade) for count in range(len(LAYERS))
        ]
    known = {}
    for layer, entries in zip(LAYERS, compiled, strict=True):
        # As the whole stack says it: a later layer may need a package on more systems than an earlier one.
        added = {name: compiled[-1][name] for name in entries if name not in known}
        text = HEAD.format(layer=layer) + "".join(added.values())
        (ROOT / "lock" / f"{layer}.txt").write_text(text, encoding="utf-8", newline="\n")
        known |= added
        print(f"lock/{layer}.txt: {len(added)} packages")
    write_constraints(known)


def install_uv(folder):
    """The compiler of the lock in an environment of its own; returns its command."""
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", UV], check=True)
    return scripts / "uv"


def compile_layers(uv, folder, layers, upgrade):
    """{package: its lines in the lock} of the project with these extras, in order of names."""
    (folder / "held.in").write_text(HELD + pinned_torch() + "\n", encoding="utf-8")
    constraints = [] if upgrade else ["-c", ROOT / "constraints.txt"]
    extras = [part for layer in layers for part in ("--extra", layer)]
    command = [uv, "pip", "compile", ROOT / "pyproject.toml", folder / "held.in", *extras, *constraints]
    options = (
        "--universal --generate-hashes --python-version 3.11 --no-annotate --no-header --no-progress --quiet"
    )
    done = subprocess.run(
        [*command, *options.split()], cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    entries = re.findall(r"^\S.*\n(?: .*\n)*", done.stdout, re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries if not OUTSIDE.match(entry)}


def pinned_torch():
    """The one version that is changed by hand: a new torch has to have a CPU build, and the figures of its memory."""
    return re.search(
        r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    ).group()


def write_constraints(entries):
    """constraints.txt: the versions of the lock, and torch's."""
    lines = sorted([*(entry.split()[0] for entry in entries.values()), pinned_torch()])
    text = CONSTRAINTS_HEAD + "\n".join(lines) + "\n"
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
