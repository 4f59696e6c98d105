"""The canary: `python course.py test --newest` runs a part of the tests with the newest versions of everything.

It has an environment of its own, `.venv-newest`, made anew each time, without the lock, and says at the end what is
newer than the lock. Exit status: 0 the tests pass, 1 some fail, 2 the newest versions could not be installed. It tells
what will break next; it judges nothing that is committed, so no other command and no merge waits for it.
"""

import json
import os
import re
import subprocess
import sys

from course_setup import checks, torch_build
from course_setup import environment as env
from course_setup.common import Missing, call, call_with_progress, need, read, say

# What leans on the libraries that change most: torch, transformers, peft, bitsandbytes, Jupyter, the oracles.
PARTS = (
    *("coursekit/" + part for part in ("amp", "formats", "optim", "quantization", "widgets")),
    *("classroom/" + part for part in ("checking", "lectures", "machine", "models", "notebook", "publish")),
)
NOT_HERE = "not gpu and not node and not browser"


def run(root, build="auto", rest=()):
    """Make the environment, run the tests, print the table; returns the exit status."""
    environment = env.Environment(root, ".venv-newest")
    checks.check_system()
    env.make_anew(environment)
    install(environment, build)
    paths = [os.path.join("tests", part) for part in PARTS]
    say("Tests with the newest versions: " + ", ".join(PARTS))
    status = call([environment.python, "-m", "pytest", "-q", "-m", NOT_HERE, *paths, *rest], cwd=root)
    print(table(pins(root), versions(environment)))
    say(
        "The tests pass with the newest versions"
        if status == 0
        else "Tests fail with the newest versions: see above"
    )
    return min(status, 1)


def install(environment, build):
    """The newest torch first, held from then on, or pip would take a CUDA build for a newer one of the CPU."""
    install_torch(environment, build)
    held = environment.path("held.txt")
    with open(held, "w", encoding="utf-8") as file:
        file.write(f"torch=={versions(environment)['torch']}\n")
    project = f"{environment.root}[{','.join(env.TEST)}]"
    command = environment.pip(
        "install", "--upgrade", "--upgrade-strategy", "eager", "-c", held, "-e", project
    )
    if call_with_progress(command, environment.folder) != 0:
        raise Missing(
            "The newest versions do not fit together, or could not be fetched: pip's words are above."
        )


def install_torch(environment, build):
    """The newest torch of the build that this machine takes; on a CPU never PyPI's, which brings CUDA on Linux."""
    wanted = torch_build.pinned(environment.root).replace("==", ">=")
    if not sys.platform.startswith("linux") or torch_build.wants_cuda(environment, build):
        need(
            environment.pip("install", wanted),
            "The newest torch could not be installed: pip's words are above.",
        )
        return
    index = environment.pip(
        "install", "--quiet", "--no-deps", "--index-url", torch_build.CPU_INDEX, "--retries", "1"
    )
    local = environment.pip("install", "--quiet", "--no-deps", "--no-index")
    if call([*index, "--timeout", "20", wanted]) != 0 and call([*local, wanted]) != 0:
        raise Missing(
            "torch's CPU index did not answer. PyPI's torch would bring several GB of CUDA libraries, so the newest "
            "versions are not tried. To try them with the CUDA build:  python course.py test --newest --cuda"
        )


def versions(environment):
    """{package: version} of what is installed, names in pip's normal form."""
    listed = subprocess.run(
        environment.pip("list", "--format", "json"), capture_output=True, encoding="utf-8", check=True
    )
    return {normal(entry["name"]): entry["version"].partition("+")[0] for entry in json.loads(listed.stdout)}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root):
    """{package: version} of the lock."""
    found = re.findall(r"^([\w.-]+)==(\S+)", read(os.path.join(root, "constraints.txt")), re.MULTILINE)
    return {normal(name): version for name, version in found}


def table(locked, newest):
    """What differs from the lock, one line each: changed, new, and gone (which another system may need)."""
    names = sorted(
        name for name in {*locked, *newest} - {"pip", "coursekit"} if locked.get(name) != newest.get(name)
    )
    rows = [(name, locked.get(name, "-"), newest.get(name, "-")) for name in names]
    if not rows:
        return "Nothing is newer than the lock."
    head = ("package", "lock", "newest")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )
