"""Whatever is set inside is as before outside, also after an error and where a folder is gone."""

import os
import random
import sys

import pytest
import torch

from classroom.checking.restore import restored


def test_settings_come_back_also_after_an_error():
    dtype, limit = torch.get_default_dtype(), sys.getrecursionlimit()
    with pytest.raises(KeyError), restored():
        torch.set_default_dtype(torch.float64)
        sys.setrecursionlimit(limit + 50)
        raise KeyError
    assert (torch.get_default_dtype(), sys.getrecursionlimit()) == (dtype, limit)


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    state = random.getstate(), torch.get_rng_state()
    with restored():
        random.random(), torch.rand(3)
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])


def test_a_folder_that_is_gone_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with restored():
        os.chdir(tmp_path)
        os.rmdir(tmp_path / "gone")
