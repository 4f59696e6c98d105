"""Which build of torch is installed. torch stands outside the lock: its builds differ, and so do their hashes.

On Linux the torch of PyPI brings gigabytes of CUDA libraries. Where no NVIDIA GPU is seen, the CPU build is taken.
"""

import glob
import os
import re
import shutil
import sys

from course_setup.common import NO_PACKAGES, Missing, call, call_with_progress, read, say

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def nvidia_is_here():
    return bool(shutil.which("nvidia-smi")) or os.path.exists("/proc/driver/nvidia")


def wants_cuda(environment, build):
    """Whether CUDA's libraries would be installed: on Linux, with an NVIDIA GPU or where it is asked for."""
    if not sys.platform.startswith("linux") or build == "cpu" or present(environment):
        return False
    return build == "cuda" or nvidia_is_here()


def pinned(root):
    """The requirement of the lock, as "torch==2.13.0"."""
    return re.search(r"^torch==\S+", read(os.path.join(root, "constraints.txt")), re.MULTILINE).group()


def present(environment):
    """The version of torch in this environment, as "2.13.0+cpu"; None if it is not there."""
    for site in environment.site_packages():
        for folder in glob.glob(os.path.join(glob.escape(site), "torch-*.dist-info")):
            if os.path.exists(os.path.join(folder, "RECORD")):
                return os.path.basename(folder)[len("torch-") : -len(".dist-info")]
    return None


def has_cuda_libraries(environment):
    return any(
        glob.glob(os.path.join(glob.escape(site), "nvidia_c*")) for site in environment.site_packages()
    )


def check_wish(environment, build):
    """Raises Missing if another build was asked for than the one that is there: pip would keep it in silence."""
    version = present(environment)
    if version is None or build == "auto":
        return
    is_cpu = version.endswith("+cpu") or not has_cuda_libraries(environment)
    if sys.platform.startswith("linux") and is_cpu != (build == "cpu"):
        there, wanted = ("CPU", "CUDA") if is_cpu else ("CUDA", "CPU")
        raise Missing(
            f"torch's {there} build is installed here, and you asked for the {wanted} build. To change it, delete the "
            f"folder {os.path.basename(environment.folder)}, then run the same command again."
        )


def install(environment, build):
    """Install torch of the pinned version, unless it is there."""
    wanted = pinned(environment.root)
    version = present(environment)
    if version and wanted == "torch==" + version.partition("+")[0]:
        return
    if not sys.platform.startswith("linux"):  # elsewhere PyPI's torch is the small one
        from_pypi(environment, wanted, "--no-deps")
        return
    if build == "cuda" or (build == "auto" and nvidia_is_here()):
        from_pypi(environment, wanted)
        return
    if not cpu_build(environment, wanted):
        say(
            "torch's own index, which has the small CPU build, did not answer. Going on with PyPI, whose torch brings "
            "several GB of CUDA libraries; to wait for a better network instead, stop this with Ctrl-C"
        )
        from_pypi(environment, wanted)


def cpu_build(environment, wanted):
    """Take the CPU build where pip's own settings already know a wheel, else from torch's index; returns success."""
    if call(environment.pip("install", "--quiet", "--no-deps", "--no-index", wanted), quiet=True) == 0:
        return True
    say("No NVIDIA GPU seen: taking torch's CPU build, about 0.2 GB (--cuda takes the other one)")
    asked = ["install", "--no-deps", "--index-url", CPU_INDEX, "--retries", "1", "--timeout", "20", wanted]
    return call_with_progress(environment.pip(*asked), environment.folder) == 0


def from_pypi(environment, wanted, *options):
    constraints = os.path.join(environment.root, "constraints.txt")
    command = environment.pip("install", *options, "-c", constraints, wanted)
    if call_with_progress(command, environment.folder) != 0:
        raise Missing(NO_PACKAGES)
