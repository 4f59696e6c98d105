"""What a machine must have before anything is installed; each check raises Missing with the remedy."""

import importlib.util
import platform
import shutil
import sys

from course_setup.common import GB, Missing, size_bytes

# Measured with the lock: the environment of `make test`, node and its packages, a browser that is fetched.
ENVIRONMENT_BYTES = 3 * GB
CUDA_BYTES = 6 * GB  # what torch's CUDA build brings on top, on Linux with an NVIDIA GPU


# The oldest systems for which torch 2.13 and bitsandbytes 0.50 have builds.
OLDEST_MACOS, OLDEST_GLIBC = (14, 0), (2, 28)
OTHERWISE = (
    "Without it: open the course on Colab, or read the notebooks, which are committed with their results."
)


def check_system():
    """Raises Missing where torch or bitsandbytes has no build; pip would only say that it found no version."""
    if sys.maxsize < 2**32:
        raise Missing(
            "This is a 32-bit Python, and torch has 64-bit builds only. Install a 64-bit one (python.org)."
        )
    check = {"darwin": check_macos, "win32": check_windows, "linux": check_linux}.get(sys.platform)
    if check:
        check(platform.machine().lower())


def check_macos(machine):
    if machine == "x86_64":
        raise Missing(
            "The course needs a Mac with Apple silicon: torch has no build for Intel Macs after version 2.2.\n"
            "If this Mac has an Apple chip, this Python was built for Intel: install the universal one of python.org.\n"
            + OTHERWISE
        )
    if version_of(platform.mac_ver()[0]) < OLDEST_MACOS:
        raise Missing(
            f"The course needs macOS 14 or later, as torch does; this is {platform.mac_ver()[0]}.\n{OTHERWISE}"
        )


def check_windows(machine):
    if machine == "arm64":
        raise Missing(
            "torch has no build for Windows on ARM. Install the Python for x86-64 of python.org, which Windows runs on "
            f"ARM too, then run this again.\n{OTHERWISE}"
        )


def check_linux(machine):
    library, version = platform.libc_ver()
    if library != "glibc" or version_of(version) < OLDEST_GLIBC:
        found = f"{library} {version}" if library else "another C library (musl, as in Alpine)"
        raise Missing(
            "torch's builds for Linux need glibc 2.28 or later (Debian 10, Ubuntu 20.04, Red Hat 8 and later have it); "
            f"this system has {found}.\n{OTHERWISE}"
        )


def version_of(text):
    """(14, 5) of "14.5.1"; (0,) where the system does not tell."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit()) or (0,)


def check_venv_module():
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise Missing(
        "Python's venv module is missing, which makes the course's own environment.\n"
        f"Debian and Ubuntu keep it in a package:  sudo apt install python3-venv  (or python{version}-venv).\n"
        "Without it: make an environment with conda (environment.yml) and call the coursekit command there."
    )


def check_disk(folder, root, with_cuda):
    """Raises Missing if the disk has less room than the environment in `folder` still needs."""
    needed = ENVIRONMENT_BYTES + (CUDA_BYTES if with_cuda else 0)
    left = max(needed - size_bytes(folder), GB // 4)
    free = shutil.disk_usage(root).free
    if free >= left:
        return
    cuda = ", most of it torch's CUDA libraries (--cpu does without)" if with_cuda else ""
    raise Missing(
        f"The course's environment takes about {needed / GB:.0f} GB{cuda}, {left / GB:.1f} GB more than is there; "
        f"{free / GB:.1f} GB are free on this disk.\n"
        "Free some space, or put the folder of the course on another disk, then run this again."
    )
