"""The level of instructions is what oneDNN itself says it uses, also where the environment hides the newer ones."""

import json
import os
import platform
import subprocess
import sys

import pytest

from coursekit import processor

CAPS = {
    "as it is": {},
    "AVX-512 without BF16 units": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
# torch and oneDNN ask for the processor once per process: each environment needs a process of its own
ASK = """
import json, torch
from coursekit import processor
x = torch.ones(64, 64)
x @ x, x.bfloat16() @ x.bfloat16()
print(json.dumps([processor.level(), processor.bf16_units()]))
"""


@pytest.fixture(scope="module", params=CAPS.values(), ids=list(CAPS))
def asked(request):
    """(level, bf16_units, lines of oneDNN's own report) of a process in that environment."""
    hidden = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = clean | request.param | {"ONEDNN_VERBOSE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    answer = next(line for line in lines if line.startswith("["))
    return *json.loads(answer), [line for line in lines if line.startswith("onednn_verbose")]


def test_units_are_what_the_level_says(asked):
    level, units, _ = asked
    assert units == level.endswith("bf16")
    assert level in ({"arm", "arm-bf16"} if on_arm() else {"bf16", "avx512", "avx2", "other"})


def test_level_equals_onednn_own_report(asked):
    """On x86; ARM's report does not tell whether there are BF16 units."""
    level, units, report = asked
    isa = next((line.split("isa:")[1] for line in report if "cpu,isa:" in line), "")
    if not on_arm() and isa:
        wide = "AVX-512" in isa or "AVX10" in isa
        assert units == (wide and "bfloat16" in isa)
        assert (level in ("bf16", "avx512")) == wide


def test_products_run_on_the_units_only_where_there_are_some(asked):
    """The kernel that oneDNN names for the BF16 product, where it runs one."""
    level, _, report = asked
    products = [line for line in report if ",exec,cpu,matmul," in line and "src:bf16" in line]
    on_units = any("_bf16," in line or "amx" in line for line in products)
    if level in ("avx512", "avx2", "other"):
        assert not on_units
    if level == "bf16":
        assert on_units


def test_either_name_hides_the_units(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "avx512_core")
    assert processor._units_are_hidden()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert not processor._units_are_hidden()


@pytest.mark.parametrize(
    ("machine", "takes_bf16", "chip", "expected"),
    [
        ("arm64", False, set(), "arm"),  # an Apple chip: torch has no oneDNN there
        ("aarch64", True, set(), "arm-bf16"),
        ("AMD64", True, {"avx2", "avx512", "avx512_bf16"}, "bf16"),
        ("x86_64", True, {"avx2", "avx512", "amx_tile"}, "bf16"),
        ("x86_64", True, {"avx2", "avx512"}, "avx512"),
        ("x86_64", True, {"avx2"}, "avx2"),  # converts between BF16 and FP32 only
        ("x86_64", False, {"avx2", "avx512", "avx512_bf16"}, "avx2"),
        ("x86_64", False, set(), "other"),
        ("ppc64le", False, set(), "other"),
    ],
)
def test_level_of_other_processors(monkeypatch, machine, takes_bf16, chip, expected):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_onednn_takes_bf16", lambda: takes_bf16)
    monkeypatch.setattr(processor, "_cpu_has", chip.__contains__)
    assert processor.level() == expected


def test_a_torch_without_the_private_question_lacks_the_units(monkeypatch):
    import torch

    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert processor._cpu_has("avx512_bf16") is False


def on_arm():
    return platform.machine().lower() in processor.ARM_NAMES
