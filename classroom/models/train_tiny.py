"""Make the embedded model: corpus, tokenizer, training, one command.

    python -m classroom.models.train_tiny --bf16 --out first
    python -m classroom.models.train_tiny --bf16 --out my-tiny --start first --steps 600 --peak 1.5e-3 \\
        --bare 0.6 --seed 1

The second command puts more nouns without an adjective into the sentences: after the first one the model copied "the
tired master" but not "the master", where no rare word precedes the one to be copied.

The model has the Llama architecture, about three million parameters, and its own byte-level BPE tokenizer and chat
template. Training reads new documents of the grammar all the time, never one twice. It writes a checkpoint every
minute: stop it with Ctrl-C, or set --minutes, and run the same command again to go on; the result is the same as
without the stop. The same seed, machine and number of threads give the same model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click

from classroom.models import corpus, task
from classroom.models.files import whole, whole_file
from coursekit.training import Diverged

PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
VOCABULARY = 1024
CONTEXT = 256
HOLD_OUT = ("validation", "test")


def base_documents(seed: int, count: int, bare: float = 0.25) -> Iterator[list | str]:
    """Documents of the base corpus: nothing about a held-out sentence of the task."""

    def may_be_used(sentence: corpus.Sentence) -> bool:
        return task.split_of(sentence) not in HOLD_OUT

    return corpus.documents(seed, count, may_be_used, bare)


def train_tokenizer(seed: int, documents: int = 20_000):
    """A byte-level BPE tokenizer of VOCABULARY tokens, with the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(map(as_text, base_documents(seed, documents)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def as_text(document: list | str) -> str:
    return document if isinstance(document, str) else "\n".join(message["content"] for message in document)


def encode(tokenizer, document: list | str) -> list[int]:
    """Token ids of one document, closed by the end token."""
    if isinstance(document, str):
        return [*tokenizer(document)["input_ids"], tokenizer.eos_token_id]
    text = tokenizer.apply_chat_template(document, tokenize=False)
    return tokenizer(text.rstrip("\n"))["input_ids"]


def token_rows(tokenizer, seed: int, batch: int, length: int, bare: float = 0.25) -> Iterator:
    """Endless int64 [batch, length]: documents one after the other, cut into rows."""
    import torch

    ids, block = [], 0
    while True:
        for document in base_documents(seed * 1_000_003 + block, 2_000, bare):
            ids += encode(tokenizer, document)
            while len(ids) >= batch * length:
                yield torch.tensor(ids[: batch * length]).view(batch, length)
                ids = ids[batch * length :]
        block += 1


def make_model(seed: int):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=CONTEXT, tie_word_embeddings=True, rope_theta=10_000.0,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def continued(folder: Path):
    """The model of a folder in FP32, for further training."""
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """The rate of a step: linear warm-up, then a straight line down to a twentieth of the peak."""
    return peak * min((step + 1) / warmup, 1.0 - 0.95 * step / steps)


def pretrain(
    model,
    rows: Iterator,
    steps: int,
    peak: float,
    checkpoint: Path | None = None,
    *,
    bf16=False,
    every_seconds=60.0,
    at_most_seconds=float("inf"),
):
    """Train in place, from the checkpoint if there is one; yields (step, loss, tokens so far) after every step.

    rows  int64 [batch, length], as from token_rows

    After at_most_seconds it writes a checkpoint and ends. The schedule is still that of all `steps`, so that training
    the rest later gives the model of one uninterrupted run. Raises Diverged; the last checkpoint is intact then.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.05)
    first = restore(checkpoint, model, optimizer)
    for _ in range(first):  # the rows of the steps that the checkpoint has behind it
        next(rows)
    started = saved = time.monotonic()
    model.train()
    for step in range(first, steps):
        row = next(rows)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        with torch.autocast(row.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = model(input_ids=row, labels=row).loss
        if not loss.isfinite():
            raise Diverged(f"the loss is {loss.item()} at step {step}: use a lower --peak than {peak}.")
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not norm.isfinite():  # a clipped infinity is NaN, and the next checkpoint would keep it
            raise Diverged(f"the gradient is {norm.item()} at step {step}: use a lower --peak than {peak}.")
        optimizer.step()
        yield step, loss.item(), (step + 1) * row.numel()
        out_of_time = time.monotonic() - started > at_most_seconds
        if checkpoint and (out_of_time or time.monotonic() - saved > every_seconds):
            store(checkpoint, model, optimizer, step + 1)
            saved = time.monotonic()
        if out_of_time:
            return


def store(path: Path, model, optimizer, step: int) -> None:
    """Write a checkpoint so that a full disk or a power cut leaves the one before it intact. Raises SaveError."""
    import torch

    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    with whole_file(path) as draft:
        torch.save(state, draft)


def restore(path: Path | None, model, optimizer) -> int:
    """Load the checkpoint if there is one; returns the number of its steps."""
    import torch

    if path is None or not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("tiny"), help="Folder to write.")
@click.option("--steps", default=1400, show_default=True)
@click.option("--batch", default=32, show_default=True, help="Rows per step.")
@click.option("--length", default=256, show_default=True, help="Tokens per row.")
@click.option("--peak", default=3e-3, show_default=True, help="Largest learning rate.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option(
    "--start", type=click.Path(exists=True, path_type=Path), help="Folder whose weights to go on from."
)
@click.option("--bare", default=0.25, show_default=True, help="Share of nouns without an adjective.")
@click.option(
    "--minutes", type=float, default=float("inf"), help="Stop after that long; run it again to go on."
)
@click.option("--bf16", is_flag=True, help="Multiply in BF16 (faster where the processor has it).")
def main(out, steps, batch, length, peak, seed, threads, start, bare, minutes, bf16) -> None:
    """Make the embedded model in a folder that transformers can load."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(0)
    tokenizer.save_pretrained(out)
    model = continued(start) if start else make_model(seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    rows = token_rows(tokenizer, seed, batch, length, bare)
    started, log = time.monotonic(), out / "training.jsonl"
    run = pretrain(model, rows, steps, peak, out / "checkpoint.pt", bf16=bf16, at_most_seconds=60 * minutes)
    step = steps - 1  # nothing is left to do if the checkpoint is that of the last step
    with tqdm(total=steps, unit="step") as bar, log.open("a", encoding="utf-8") as file:
        for step, loss, tokens in run:
            bar.update(step + 1 - bar.n)
            if step % 50 == 49 or step == 0:
                seconds = round(time.monotonic() - started, 1)
                file.write(
                    json.dumps({"step": step + 1, "loss": loss, "tokens": tokens, "seconds": seconds}) + "\n"
                )
                file.flush()
                bar.set_postfix(loss=f"{loss:.3f}")
    if step + 1 < steps:
        print(f"Stopped after step {step + 1:,} of {steps:,}. Run the same command again to go on.")
        return
    with whole(out) as draft:
        model.to(torch.bfloat16).save_pretrained(draft)
    (out / "checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
