"""What depends on the processor, once more on the two levels below BF16 units, which most laptops have.

The environment hides the newer instructions from torch and oneDNN; they read it when they are loaded, so each level is
a process of its own. On a processor that is at that level anyway, or on ARM, the same tests run as they are.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    "AVX-512 without BF16 units": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
SELECTED = {
    "tests/coursekit/amp/test_tensor_core.py": "test",
    "tests/classroom/lectures/amp/test_experiments.py": "test_the_cures_follow_fp32 and BF16",
    "tests/coursekit/memory/test_measure.py": "scratch",
    "tests/coursekit/memory/test_planner_measured.py": "(bf16 and shape0) or (test_autocast and shape0)",
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("level", LEVELS)
def test_holds_on(level):
    chosen = " or ".join(f"({Path(path).stem} and ({words}))" for path, words in SELECTED.items())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-m",
        "not gpu",
    ]
    result = subprocess.run(
        [*command, "-k", chosen, *SELECTED],
        cwd=ROOT,
        env={**os.environ, **LEVELS[level], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]
