"""Python's half of the memory explorer: its state stays in step, refuses nonsense, and has a still."""

import subprocess
import sys

import pytest
import traitlets

from coursekit.memory.cards import Card
from coursekit.memory.planner import Plan, estimate
from coursekit.widgets.memory_explorer import MODELS, MemoryExplorer, spelled


def test_its_estimate_is_the_planners():
    explorer = MemoryExplorer("llama-3-8b", "qlora", sequence=512, checkpointing=True)
    plan = Plan("llama-3-8b", sequence=512, lora_rank=16, quantization="nf4", checkpointing=True)
    assert explorer.estimate.phases == estimate(plan).phases


def test_the_estimate_follows_every_choice():
    explorer = MemoryExplorer("tiny", "fp32")
    before = explorer.estimate.peak_bytes
    explorer.batch = 8
    assert explorer.estimate.peak_bytes > before
    explorer.method, explorer.optimizer, explorer.attention = "lora", "sgd", "eager"
    explorer.zero_stage, explorer.gpus, explorer.card = 1, 4, "16"
    assert explorer.plan == Plan(
        "tiny", batch=8, sequence=2048, ledger="bf16", lora_rank=16, optimizer="sgd", attention="eager", zero_stage=1,
        world_size=4,
    )  # fmt: skip
    assert explorer.card == "16 GB"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model", "llama-9", "model must be one of tiny"),
        ("method", "magic", "method must be one of fp32"),
        ("batch", 0, "batch must be one of 1 to 64"),
        ("sequence", 1000, "sequence must be one of 128"),
        ("gpus", 3, "gpus must be one of 1, 2, 4"),
        ("zero_stage", 3, "stage 3 cannot shard"),
        ("card", "H900", "no card 'H900'"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(name, value, words):
    explorer = MemoryExplorer("tiny", "qlora")
    before = explorer.plan, explorer.card
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(explorer, name, value)
    assert (explorer.plan, explorer.card) == before


@pytest.mark.parametrize(("model", "why"), [("mixtral-8x7b", "experts"), ("gpt2", "learned positions")])
def test_models_that_not_every_choice_applies_to_are_refused(model, why):
    with pytest.raises(ValueError, match=why):
        MemoryExplorer(model)


def test_another_preset_joins_the_picker():
    explorer = MemoryExplorer("qwen3-0.6b", "bf16")
    assert explorer.facts["choices"]["model"] == (*MODELS, "qwen3-0.6b")


def test_cards_by_name_by_memory_and_own():
    assert [spelled(card) for card in ("h100", 20, "24", Card("H200", 141))] == [
        "H100",
        "20 GB",
        "24 GB",
        "H200",
    ]


def test_a_reader_without_scripts_gets_text_and_picture():
    data, _ = MemoryExplorer("tiny", "fp32", card="T4")._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    lines = data["text/plain"].splitlines()
    assert lines[0].startswith("tiny, all weights, FP32, AdamW") and "T4 (16 GB)" in lines[1]
    assert 'alt="tiny, all weights, FP32' in data["text/html"]


def test_the_same_state_gives_the_same_bytes_in_every_process():
    """Committed notebooks must not change from run to run: no random id, no address."""
    code = (
        "from coursekit.widgets.memory_explorer import MemoryExplorer as M; import hashlib; "
        "data, _ = M('tiny', 'lora', models=('tiny',))._repr_mimebundle_(); "
        "print(hashlib.sha256((data['text/html'] + data['text/plain']).encode()).hexdigest())"
    )
    assert len({subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}) == 1


def test_it_needs_no_torch():
    code = (
        "import sys; from coursekit.widgets.memory_explorer import MemoryExplorer; MemoryExplorer(); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
