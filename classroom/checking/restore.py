"""Restore what a student's function may have changed for the whole program: dtype, gradients, random state, folder.

A function under check that sets torch's default dtype would otherwise make the next cell wrong, far from
where the mistake is.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def restored():
    """Inside, anything may be set; afterwards it is as before. Libraries that are not loaded stay so."""
    states = [(get, put, get()) for get, put in _settings()]
    chances = [(put, get()) for get, put in _generators()]
    try:
        yield
    finally:
        for get, put, before in states:
            if get() != before:
                put(before)
        for put, before in chances:
            put(before)


def _settings() -> Iterator[tuple[Callable, Callable]]:
    """Give (how to read, how to set) of every setting that is one value."""
    yield _folder, _go_to
    yield sys.getrecursionlimit, sys.setrecursionlimit
    if numpy := sys.modules.get("numpy"):
        yield numpy.geterr, lambda settings: numpy.seterr(**settings)
    if torch := sys.modules.get("torch"):
        yield torch.get_default_dtype, torch.set_default_dtype
        yield torch.get_default_device, torch.set_default_device
        yield torch.is_grad_enabled, torch.set_grad_enabled
        yield torch.get_num_threads, torch.set_num_threads
        yield torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms


def _generators() -> Iterator[tuple[Callable, Callable]]:
    """Give (how to read, how to set) of the random generators that all code shares."""
    yield random.getstate, random.setstate
    if numpy := sys.modules.get("numpy"):
        yield numpy.random.get_state, numpy.random.set_state
    if torch := sys.modules.get("torch"):
        yield torch.get_rng_state, torch.set_rng_state


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


def _go_to(folder: str) -> None:
    with suppress(OSError):  # it was deleted
        os.chdir(folder)
