"""What every part of the set-up uses: sentences, the one error, and programs that are waited for."""

import os
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
GB = 10**9
SECONDS_BETWEEN_LINES = 30


NO_PACKAGES = (
    "The packages could not be installed. Setting up needs a network once (and some GB of disk); after that the course "
    "runs offline. pip's own words are above. Run the same command again: what is there is kept."
)


class Missing(Exception):
    """Something the task needs is not there; the message says what, the remedy, and what works without it."""


def say(text):
    print("==> " + text, flush=True)


def call(command, cwd=ROOT, env=None, quiet=False):
    """Exit status of `command`; 127 if it cannot be started. Ctrl-C reaches the program itself: we wait for its end."""
    output = subprocess.DEVNULL if quiet else None
    try:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output)
    except OSError as error:
        if not quiet:
            print(error, file=sys.stderr)
        return 127
    return wait(process)


def wait(process):
    """Exit status of a program that is running. A first Ctrl-C is its own matter; a second one is ours."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def need(command, trouble, **options):
    """Run `command`; raises Missing with the words `trouble` if it fails."""
    if call(command, **options) != 0:
        raise Missing(trouble)


def call_with_progress(command, folder, cwd=ROOT):
    """Exit status of pip. It shows its own bars on a terminal; elsewhere a line every half minute says that it lives.

    `folder` is what pip fills; the line tells how large it is by now.
    """
    if sys.stdout.isatty():
        return call(command, cwd=cwd)
    process = subprocess.Popen([*command, "--quiet"], cwd=cwd)
    started = time.monotonic()
    while True:
        try:
            return wait_a_while(process)
        except subprocess.TimeoutExpired:
            minutes = (time.monotonic() - started) / 60
            say(f"still installing after {minutes:.1f} minutes; {size_bytes(folder) / GB:.2f} GB are there")


def wait_a_while(process):
    try:
        return process.wait(timeout=SECONDS_BETWEEN_LINES)
    except KeyboardInterrupt:
        process.wait()
        raise


def size_bytes(folder):
    """Bytes of all files under `folder`; 0 if it is not there. Files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def read(path):
    """The text of a file, None if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def write(path, text):
    """Write a file whole or not at all: an interruption leaves the old one."""
    draft = path + ".part"
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(draft, path)
