"""Measures how fast this machine is now, so that a promise in seconds can be judged on any."""

import time

import pytest
import torch

REFERENCE_SECONDS = 0.93  # the job below on the reference machine: two idle cores with BF16 units
SLACK = 1.2


def job_seconds() -> float:
    """Return the CPU seconds of what notebooks do: bare Python, small tensor operations, products of matrices."""
    started = time.thread_time()
    total = 0
    for n in range(1_000_000):
        total += n % 7
    x = torch.ones(128, 256)
    for _ in range(1000):
        x = torch.tanh(x * 0.5)
    weight = torch.full((256, 1024), 0.01)
    for _ in range(100):
        weight.T @ (x.T[:, :128] @ x @ weight)[:256]
    return time.thread_time() - started


@pytest.fixture(scope="session")
def slowness() -> float:
    """Return how many times the seconds of the reference machine this one may take; at least the slack."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    measured = min(job_seconds() for _ in range(3))
    torch.set_num_threads(threads)
    return SLACK * max(1.0, measured / REFERENCE_SECONDS)
