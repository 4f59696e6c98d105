"""One run through all backends: TensorBoard's own reader gives back what JSONL holds."""

import math
import sys
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coursekit.throughput import backends
from coursekit.throughput.tracking import Jsonl, Record, Tracker, read


def log_run(tracker):
    tracker.config(rate=1e-3, layers=[1, 2], name="tiny")
    tracker.text("remark", "zwölf")
    for step in range(1, 6):
        tracker.log(step, loss=0.1 * step, rate=1 / step)
    tracker.log(6, loss=math.nan, rate=math.inf)


def test_jsonl_and_tensorboard_hold_the_same_run(tmp_path):
    """Bit by bit, by TensorBoard's EventAccumulator; 0.1 must not become 0.10000000149."""
    with Tracker(Jsonl(tmp_path / "run.jsonl"), backends.TensorBoard(tmp_path / "events")) as tracker:
        log_run(tracker)
    assert backends.read_tensorboard(tmp_path / "events") == read(tmp_path / "run.jsonl")


def test_tensorboard_shows_them_as_scalars_and_texts(tmp_path):
    """The plugin names that TensorBoard's dashboards look for."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracker(backends.TensorBoard(tmp_path)) as tracker:
        log_run(tracker)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.PluginTagToContent("scalars")) == {"loss", "rate"}
    assert "remark/text_summary" in events.PluginTagToContent("text")


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_tensorboard_gives_back_every_float(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("events")
    with Tracker(backends.TensorBoard(folder)) as tracker:
        for step, value in enumerate(values):
            tracker.log(step, x=value)
    expected = [Record("numbers", step, {"x": value}) for step, value in enumerate(values)]
    assert backends.read_tensorboard(folder) == expected


def test_a_run_of_tensorboard_is_continued(tmp_path):
    for step in (1, 2):
        with Tracker(backends.TensorBoard(tmp_path)) as tracker:
            tracker.log(step, loss=float(step))
    assert [record.step for record in backends.read_tensorboard(tmp_path)] == [1, 2]


class Calls:
    """Stands in for an object of a library: keeps what was called on it, with what."""

    def __init__(self, log, name=""):
        self._log, self._name = log, name

    def __getattr__(self, name):
        return Calls(self._log, f"{self._name}.{name}".lstrip("."))

    def __setitem__(self, key, value):
        self._log.append((f"{self._name}[]", (key, value), {}))

    def __call__(self, *args, **kwargs):
        self._log.append((self._name, args, kwargs))
        return Calls(self._log, "run")


def test_wandb_gets_its_calls_offline(monkeypatch, tmp_path):
    log = []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Calls(log, "init")))
    with Tracker(backends.WandB("course", tmp_path)) as tracker:
        tracker.config(rate=0.5)
        tracker.log(3, loss=1.5)
        tracker.text("remark", "hello")
    assert log == [
        ("init", (), {"project": "course", "name": None, "dir": str(tmp_path), "mode": "offline"}),
        ("run.config.update", ({"rate": 0.5},), {}),
        ("run.log", ({"loss": 1.5},), {"step": 3}),
        ("run.summary.update", ({"remark": "hello"},), {}),
        ("run.finish", (), {}),
    ]


def test_aim_gets_its_calls(monkeypatch, tmp_path):
    log = []
    module = types.SimpleNamespace(Run=Calls(log, "Run"), Text=lambda text: ("Text", text))
    monkeypatch.setitem(sys.modules, "aim", module)
    with Tracker(backends.Aim(tmp_path)) as tracker:
        tracker.config(rate=0.5)
        tracker.log(3, loss=1.5, norm=2.0)
        tracker.text("remark", "hello")
    assert log == [
        ("Run", (), {"repo": str(tmp_path), "experiment": "coursekit"}),
        ("run[]", ("rate", 0.5), {}),
        ("run.track", (1.5,), {"name": "loss", "step": 3}),
        ("run.track", (2.0,), {"name": "norm", "step": 3}),
        ("run.track", (("Text", "hello"),), {"name": "remark"}),
        ("run.close", (), {}),
    ]


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("wandb", lambda: backends.WandB("course")),
        ("aim", lambda: backends.Aim()),
        ("tensorboard", lambda: backends.TensorBoard("runs")),
    ],
)
def test_a_missing_package_gets_a_sentence(monkeypatch, package, make):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"needs {package}, which is not installed: pip install {package}"):
        make()


def test_one_run_in_all_backends_at_once(monkeypatch, tmp_path):
    log = []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Calls(log, "init")))
    monkeypatch.setitem(sys.modules, "aim", types.SimpleNamespace(Run=Calls(log, "Run"), Text=str))
    everything = (
        Jsonl(tmp_path / "run.jsonl"), backends.TensorBoard(tmp_path / "events"),
        backends.WandB("course", tmp_path), backends.Aim(tmp_path),
    )  # fmt: skip
    with Tracker(*everything) as tracker:
        log_run(tracker)
    losses = [record.values["loss"] for record in read(tmp_path / "run.jsonl") if record.kind == "numbers"]
    to_wandb = [args[0]["loss"] for name, args, _ in log if name == "run.log"]
    to_aim = [args[0] for name, args, kwargs in log if name == "run.track" and kwargs["name"] == "loss"]
    assert list(map(repr, losses)) == list(map(repr, to_wandb)) == list(map(repr, to_aim))
