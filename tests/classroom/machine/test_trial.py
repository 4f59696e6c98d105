"""A package is tried where it can do no harm, and what comes out is one line each."""

import sys

import pytest

from classroom.machine import trial


@pytest.fixture
def with_packages(tmp_path, monkeypatch):
    """with_packages(name="source", ...) makes modules that a trial can import."""

    def make(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return trial.start(tuple(sources)).results()

    return make


def test_one_bad_package_does_not_keep_the_others_from_being_tried(with_packages):
    results = with_packages(
        talks="print('trial-failed nonsense', end='')",
        fails="raise RuntimeError('a preface\\n  operator nms does not exist\\n')",
        wraps="try:\n  1 / 0\nexcept ZeroDivisionError as error:\n  raise ImportError('See above.') from error",
        leaves="raise SystemExit(3)",
        fine="",
    )
    assert results == {
        "talks": trial.OK,
        "fails": "RuntimeError: operator nms does not exist",
        "wraps": "ZeroDivisionError: division by zero",
        "leaves": "SystemExit: 3",
        "fine": trial.OK,
    }


def test_a_package_that_ends_python_is_named(with_packages):
    results = with_packages(fine="", deadly="import os; os._exit(66)", later="")
    assert results == {"fine": trial.OK, "deadly": "it ends the whole Python program (exit status 66)"}


def test_a_signal_has_its_name():
    assert trial.read("trial-started torch\n", -4) == {"torch": "it ends the whole Python program (SIGILL)"}


def test_a_trial_that_takes_too_long_says_nothing_of_the_rest(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import threading; threading.Event().wait()", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trials = trial.start(("endless",))
    assert trials.results(seconds=0.5) == {}
    assert trials.process.returncode is not None


def test_where_no_process_can_be_started_nothing_is_known(monkeypatch):
    monkeypatch.setattr(sys, "executable", "no-such-python")
    assert trial.start(("torch",)).results() == {}


def test_packages_that_compute_wrongly_fail():
    trial.expect(64, 64)
    with pytest.raises(ValueError, match="it computes 63 where 64 is right"):
        trial.expect(63, 64)


def test_peft_is_tried_by_giving_a_layer_an_adapter(monkeypatch):
    """An import alone succeeds beside Colab's torchao, which peft refuses at the first layer."""
    from peft.tuners.lora import torchao

    def refuse():
        raise ImportError("Found an incompatible version of torchao.")

    trial.adapt()
    monkeypatch.setattr(torchao, "is_torchao_available", refuse)
    with pytest.raises(ImportError, match="torchao"):
        trial.adapt()
