"""Graphics processors: which one torch can use, which one the course uses, and what is in the way of one that is there.

The course runs on an NVIDIA card (CUDA) or, as torch offers it, an AMD card (ROCm). It does not use the GPU of an Apple
chip ("mps") nor Intel's ("xpu"): there everything runs on the processor, bitsandbytes too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from classroom.machine import host as machine

GIB = 2**30
NOWHERE = "none that torch can use: everything runs on the processor, in small sizes"
CHOOSE_TORCH = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Gpu:
    """`kind`: "cuda" (NVIDIA), "rocm" (AMD), "mps" (Apple) or "xpu" (Intel). What is not known is None."""

    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None
    kind: str = "cuda"

    @property
    def used(self) -> bool:
        """Whether the course computes on it."""
        return self.kind in ("cuda", "rocm")

    def words(self) -> str:
        if self.kind == "mps":
            return f"{self.name} (mps): the course does not use it; everything runs on the processor"
        if self.kind == "xpu":
            return f"{self.name} (Intel, xpu): the course does not use it; everything runs on the processor"
        memory = "memory unknown" if self.memory_bytes is None else f"{self.memory_bytes / GIB:.1f} GiB"
        if self.kind == "rocm":
            return f"{self.name}, {memory}, AMD through ROCm: torch calls it cuda too; the course was never run on one"
        return f"{self.name}, {memory}, compute capability {self.compute_capability}"


def find_gpu() -> Gpu | None:
    """The first GPU that this torch can use, None if there is none."""
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        kind = "rocm" if torch.version.hip else "cuda"
        return Gpu(found.name, found.total_memory, f"{found.major}.{found.minor}", kind)
    if torch.backends.mps.is_available():
        return Gpu(
            f"GPU of the {machine.answer_of('sysctl', '-n', 'machdep.cpu.brand_string') or 'Apple chip'}",
            kind="mps",
        )
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return Gpu(torch.xpu.get_device_name(0), kind="xpu")
    return None


def unused_card() -> str | None:
    """A sentence on a GPU that is in this machine and that torch cannot use; None if there is none.

    Call it where `find_gpu` has found no GPU of kind "cuda" or "rocm".
    """
    card = machine.answer_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if card:
        return unused_nvidia(*(word.strip() for word in card.splitlines()[0].split(",")))
    if os.path.exists("/dev/kfd") and not _built_for()[1]:
        return (
            "An AMD GPU is here, and this torch is not built for ROCm: the course runs on the processor. With the ROCm "
            f"build ({CHOOSE_TORCH}) torch would use it; the course was never run on one."
        )
    return None


def unused_nvidia(name: str, driver: str = "unknown") -> str:
    """Why torch does not use this NVIDIA card, and the remedy."""
    cuda, _ = _built_for()
    if cuda is None:
        return (
            f"An NVIDIA GPU is here ({name}), but this torch is the CPU build: the course runs on the processor. "
            f"To use the GPU, install the CUDA build of torch here; {CHOOSE_TORCH} names the command. "
            "(On Windows, `pip install torch` alone always brings the CPU build.)"
        )
    return (
        f"An NVIDIA GPU is here ({name}, driver {driver}), but this torch, built for CUDA {cuda}, cannot use it: the "
        "course runs on the processor. Most often the driver is older than that CUDA: renew the driver, or install a "
        f"build for an older CUDA ({CHOOSE_TORCH}). CUDA_VISIBLE_DEVICES, if you set it, must name the GPU."
    )


def _built_for() -> tuple[str | None, str | None]:
    """(CUDA's version, ROCm's version) of this torch; None for what it is not built for."""
    import torch

    return torch.version.cuda, torch.version.hip
