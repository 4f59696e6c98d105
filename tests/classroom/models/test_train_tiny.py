"""The script that makes the model, in miniature: the same bytes twice, across a stop too; a full disk loses nothing."""

import itertools

import pytest
import torch
from click.testing import CliRunner

from classroom.models import train_tiny
from classroom.models.files import SaveError


@pytest.fixture(scope="module")
def tokenizer():
    return train_tiny.train_tokenizer(0, documents=1500)


def small_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=1024, num_key_value_heads=1, **sizes))


def train(tokenizer, steps, checkpoint=None, stop_after=None):
    model = small_model()
    rows = train_tiny.token_rows(tokenizer, seed=0, batch=2, length=32)
    run = train_tiny.pretrain(model, rows, steps, peak=1e-3, checkpoint=checkpoint, every_seconds=-1)
    losses = [loss for _, loss, _ in itertools.islice(run, stop_after)]
    return torch.cat([p.detach().flatten() for p in model.parameters()]), losses


def test_two_runs_give_the_same_model(tokenizer):
    (first, losses), (second, _) = train(tokenizer, 4), train(tokenizer, 4)
    assert first.equal(second) and losses[0] == pytest.approx(6.93, abs=0.1)  # ln 1024: it knows nothing yet


def test_stopped_and_resumed_is_the_same_model(tokenizer, tmp_path):
    file = tmp_path / "checkpoint.pt"
    train(tokenizer, 6, file, stop_after=4)  # the generator is dropped after four steps, three of them stored
    resumed, losses = train(tokenizer, 6, file)
    assert len(losses) < 6
    assert resumed.equal(train(tokenizer, 6)[0])


def command(folder, *more):
    """The script itself, for three steps of very little."""
    options = [
        "--out",
        str(folder),
        "--steps",
        "3",
        "--batch",
        "2",
        "--length",
        "32",
        "--threads",
        "1",
        *more,
    ]
    return CliRunner().invoke(train_tiny.main, options, catch_exceptions=False).output


def test_the_script_stopped_and_resumed_writes_the_same_bytes(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(train_tiny, "make_model", lambda seed: small_model())
    monkeypatch.setattr(train_tiny, "train_tokenizer", lambda seed: tokenizer)
    threads = torch.get_num_threads()
    command(tmp_path / "whole")
    for step in (1, 2):
        assert f"Stopped after step {step} of 3. Run the same command again" in command(
            tmp_path / "parts", "--minutes", "0"
        )
        assert not (tmp_path / "parts" / "model.safetensors").exists()
    command(tmp_path / "parts")
    torch.set_num_threads(threads)
    files = [(tmp_path / part / "model.safetensors").read_bytes() for part in ("whole", "parts")]
    assert files[0] == files[1]
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tokenizer, tmp_path, room):
    file = tmp_path / "checkpoint.pt"
    train(tokenizer, 3, file)
    before = file.read_bytes()
    with room(100_000), pytest.raises(SaveError, match=r"checkpoint\.pt could not be saved"):
        train(tokenizer, 6, file)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"] and file.read_bytes() == before


def test_a_loss_that_is_no_number_stops_it(tokenizer, tmp_path):
    model = small_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    run = train_tiny.pretrain(model, train_tiny.token_rows(tokenizer, 0, 2, 32), 3, peak=1e-3)
    with pytest.raises(train_tiny.Diverged, match="loss is nan at step 0: use a lower --peak"):
        next(run)


def test_a_batch_is_the_documents_one_after_the_other(tokenizer):
    rows = next(train_tiny.token_rows(tokenizer, seed=0, batch=4, length=64))
    ids = [i for d in train_tiny.base_documents(0, 50) for i in train_tiny.encode(tokenizer, d)]
    assert rows.shape == (4, 64) and rows.flatten().tolist() == ids[:256]


def test_the_tokenizer_spells_anything_and_keeps_the_template_in_one_token_each(tokenizer):
    assert tokenizer.decode(tokenizer("Größe 東京 \n<x>")["input_ids"]) == "Größe 東京 \n<x>"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi."}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|start|>user\nHi.<|end|>\n<|start|>assistant\n"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(1) == 2 and ids.count(tokenizer.eos_token_id) == 1


def test_the_learning_rate_rises_and_falls():
    rates = [train_tiny.learning_rate(step, 1000, peak=1.0) for step in (0, 99, 500, 999)]
    assert rates == pytest.approx([0.01, 0.90595, 0.525, 0.05095])
