"""Fine-tuning with the libraries: only the answer is a target; each method trains what it should and learns."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classroom.models import finetune, task
from classroom.models.load import load
from classroom.models.pairs import read_pairs
from coursekit.training import IGNORED


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_only_the_answer_and_its_end_are_targets(tiny):
    _, tokenizer = tiny
    pair = task.pairs("train", 1)[0]
    ids, labels = finetune.encode_pair(tokenizer, pair)
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == pair.response + "<|end|>"
    assert [i for i, label in zip(ids, labels, strict=True) if label != IGNORED] == [
        x for x in labels if x != IGNORED
    ]


def test_a_batch_is_padded_on_the_right_and_the_padding_is_no_target(tiny):
    _, tokenizer = tiny
    batch = finetune.collate(tokenizer, [([5, 6, 7], [IGNORED, 6, 7]), ([5], [5])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, tokenizer.pad_token_id, tokenizer.pad_token_id]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [5, IGNORED, IGNORED]]


def test_batches_go_through_all_pairs_before_one_comes_again(tiny):
    _, tokenizer = tiny
    batches = finetune.batches(tokenizer, task.pairs("train", 12), size=4)
    seen = [tuple(row.tolist()) for _ in range(3) for row in next(batches)["input_ids"]]
    assert len({tuple(i for i in row if i != tokenizer.pad_token_id) for row in seen}) == 12


def first_words(batch) -> list[tuple]:
    return [
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


@pytest.mark.filterwarnings("ignore:.*do not fill a batch")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 9), size=st.integers(1, 20), rounds=st.integers(1, 3))
def test_any_number_of_pairs_gives_batches(tiny, count, size, rounds):
    """Never fewer than there can be, never the same pair twice in a round; a batch of all where they are few."""
    _, tokenizer = tiny
    batches, rows = finetune.batches(tokenizer, task.pairs("train", count), size), min(size, count)
    for _ in range(rounds):
        seen = [words for _ in range(count // rows) for words in first_words(next(batches))]
        assert len(seen) == len(set(seen)) == count // rows * rows


def test_few_pairs_are_said_to_be_few(tiny):
    with pytest.warns(UserWarning, match="3 pairs do not fill a batch of 16: every step takes all 3"):
        assert len(next(finetune.batches(tiny[1], task.pairs("train", 3)))["labels"]) == 3


@pytest.mark.parametrize(
    ("count", "size", "words"), [(0, 4, "no pair to train on"), (3, 0, "size must be"), (3, -2, "-2")]
)
def test_no_pairs_and_no_size_are_refused_at_once(tiny, count, size, words):
    with pytest.raises(ValueError, match=words):
        finetune.batches(tiny[1], task.pairs("train", count), size)


def test_ten_lines_of_ones_own_train_with_a_batch_of_sixteen(tmp_path, one_thread):
    """As on the Start page: the file is read, an adapter learns from it, the run ends, and the loss falls."""
    lines = [json.dumps({"prompt": p.prompt, "response": p.response}) for p in task.pairs("train", 10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    model, tokenizer = finetune.trainable("lora")
    with pytest.warns(UserWarning, match="10 pairs do not fill a batch of 16"):
        run = finetune.training(model, tokenizer, read_pairs(tmp_path / "pairs.jsonl"), steps=4, rate=1e-3)
    assert run.go() and len(run.history) == 4
    assert run.history[-1].loss < run.history[0].loss


@pytest.mark.parametrize(("method", "trained"), [("full", "all"), ("lora", "lora_"), ("qlora", "lora_")])
def test_each_method_trains_what_it_should(method, trained):
    model, _ = finetune.trainable(method)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all(trained == "all" or trained in name for name in names)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="full, lora, qlora; got 'dora'"):
        finetune.trainable("dora")


@pytest.fixture
def one_thread():
    """Two test processes with two threads each on two cores wait for each other: one thread is ten times as fast."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_few_steps_of_qlora_teach_the_form(one_thread):
    """The light version of the proof: 60 steps, 40 held-out sentences; the base knows nothing of the task."""
    result = finetune.prove("qlora", steps=60, tests=40)
    assert result.exact_match_before <= 0.05 and result.exact_match >= 0.5


def test_a_model_that_has_chatted_still_learns(one_thread):
    """bitsandbytes 0.50 repacks 4-bit weights on some CPUs when it generates; then most adapters get no gradient."""
    model, tokenizer = finetune.trainable("qlora")
    task.answers(model, tokenizer, task.pairs("test", 2))
    model.train()
    model(**next(finetune.batches(tokenizer, task.pairs("train", 16), device=model.device))).loss.backward()
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(adapters) == 2 * 7 * 4  # two matrices for each of seven linear layers in four blocks
    # At the start B is zero, so only B gets a gradient that is not.
    assert all(p.grad is not None and p.grad.any() for name, p in adapters.items() if "lora_B" in name)
