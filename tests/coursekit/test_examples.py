"""The examples in the docstrings of coursekit run, and say what they print."""

import doctest
import importlib
import pkgutil

import pytest

import coursekit

MODULES = [
    module.name for module in pkgutil.walk_packages(coursekit.__path__, "coursekit.") if not module.ispkg
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
