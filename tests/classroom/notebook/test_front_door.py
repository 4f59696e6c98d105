"""The front door hands on every name it lists, and imports nothing before a name is used."""

import subprocess
import sys
from importlib import import_module

import pytest

import classroom


@pytest.mark.parametrize("name", classroom.FRONT_DOOR)
def test_a_name_is_what_its_module_has(name):
    assert getattr(classroom, name) is getattr(import_module(classroom.FRONT_DOOR[name]), name)
    assert name in dir(classroom)


def test_an_unknown_name_is_refused_with_those_that_are_there():
    with pytest.raises(AttributeError, match="no attribute 'reveal'; it hands on predict, show, compare"):
        classroom.reveal  # noqa: B018


def test_compare_needs_no_figures():
    """`from classroom import compare` leaves matplotlib unloaded."""
    code = "import sys; from classroom import compare; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
