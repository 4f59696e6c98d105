"""The course's code on a second device, in a process of its own: a registered device cannot be unregistered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PARTS = [
    path for path in sorted(HERE.glob("*.py")) if path.stem not in ("second_device", Path(__file__).stem)
]


def test_every_tensor_is_where_the_model_is():
    """All tests of this folder: what forgets a `.to(device)` raises there, as it would on a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "second_device"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([*command, *map(str, PARTS)], env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout[-8000:] + done.stderr[-2000:], pytrace=False)
