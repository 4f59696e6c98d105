"""What a machine must have before anything is installed; each check raises Missing with the remedy."""

import importlib.util
import platform
import shutil
import sys

from course_setup.common import GB, Missing, size_bytes

# Measured with the lock: the environment of `make test`, node and its packages, a browser that is fetched.
ENVIRONMENT_BYTES = 3 * GB
CUDA_BYTES = 6 * GB  # what torch's CUDA build brings on top, on Linux with an NVIDIA GPU


def check_system():
    """Raises Missing where torch or bitsandbytes has no wheel; pip would only say that it found no version."""
    machine = platform.machine().lower()
    if sys.maxsize < 2**32:
        raise Missing(
            "This is a 32-bit Python, and torch has 64-bit builds only. Install a 64-bit Python (python.org)."
        )
    if sys.platform == "darwin" and machine == "x86_64":
        raise Missing(
            "The course needs a Mac with Apple silicon: torch has no build for Intel Macs after version 2.2.\n"
            "If this Mac has an Apple chip, this Python was built for Intel: install the universal one of python.org.\n"
            "Without it: open the course on Colab, or read the notebooks, which are committed with their results."
        )
    if sys.platform == "win32" and machine == "arm64":
        raise Missing(
            "bitsandbytes, which the course needs, has no build for Windows on ARM. Install the 64-bit x86 Python of "
            "python.org (Windows runs it on ARM too), then run this again."
        )


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
