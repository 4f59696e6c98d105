"""Tell whether the processor has units for BF16, and which level of instructions torch uses.

The answer is for this process as it runs now, not for the chip: `ONEDNN_MAX_CPU_ISA=AVX2` in the environment hides
newer instructions from oneDNN, the library that computes torch's matrix products on a processor. `ATEN_CPU_CAPABILITY`
does not: it chooses the kernels of element-wise operations only. Left out: how fast they are (classroom.machine.speed).
"""

from __future__ import annotations

import os
import platform

ARM_NAMES = ("arm64", "aarch64")
# Values of ONEDNN_MAX_CPU_ISA that hide the BF16 units; any other value (DEFAULT, AVX512_CORE_AMX, ...) shows them.
ISAS_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def bf16_units() -> bool:
    """Whether a matrix product of BF16 tensors on the CPU runs on BF16 instructions in this process.

    If not, torch converts in blocks (AVX-512: about 3 times slower than FP32) or loops (AVX2: 40 times slower).
    """
    return level() in ("bf16", "arm-bf16")


def level() -> str:
    """The instructions that torch's matrix products use in this process.

    "bf16": x86 with BF16 units (AVX512-BF16 or AMX). "avx512", "avx2": x86 without, at that width. "arm-bf16", "arm":
    ARM with and without. "other": older than AVX2, or another family.
    """
    if platform.machine().lower() in ARM_NAMES:
        return "arm-bf16" if _onednn_takes_bf16() else "arm"
    # oneDNN takes BF16 from AVX-512 on, but before AVX512-BF16 it only imitates the units
    if _onednn_takes_bf16() and _cpu_has("avx512"):
        has_units = _cpu_has("avx512_bf16") or _cpu_has("amx_tile")
        return "bf16" if has_units and not _units_are_hidden() else "avx512"
    return "avx2" if _cpu_has("avx2") else "other"


def _onednn_takes_bf16() -> bool:
    """Whether torch hands BF16 products to oneDNN at all; False in builds without it, as for macOS."""
    import torch

    mkldnn = torch.backends.mkldnn  # oneDNN's name in torch is an older one
    if not (mkldnn.is_available() and getattr(mkldnn, "enabled", True)):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_has(name: str) -> bool:
    """Whether the chip has these instructions ("avx2", "avx512", "avx512_bf16", "amx_tile"), hidden or not."""
    import torch

    # private names: a later torch that lacks one counts as a chip that lacks the instructions
    question = getattr(torch.cpu, f"_is_{name}_supported", None)
    return bool(question and question())


def _units_are_hidden() -> bool:
    """Whether the environment caps oneDNN below BF16 (it reads either name, upper or lower case)."""
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    return cap.upper() in ISAS_WITHOUT_BF16
