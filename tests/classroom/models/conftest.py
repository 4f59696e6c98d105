"""A copy of the model to damage, and a disk with little room."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from classroom.models.load import TINY


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the embedded model's folder."""
    return shutil.copytree(TINY, tmp_path / "model")


@pytest.fixture
def room():
    """`with room(100_000):` no file of this process can grow beyond 100,000 bytes.

    The system itself refuses the write, in the middle of the file, whoever writes: Python, safetensors, torch.
    """
    import resource

    @contextmanager
    def limit(nbytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
