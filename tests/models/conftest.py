"""A disk with little room."""

from contextlib import contextmanager

import pytest


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
