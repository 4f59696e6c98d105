"""Make pairs of the fine-tuning task: rewrite a plain sentence in the word order of a certain small green master.

    The young knight found a silver key.  ->  A silver key, the young knight found.

The base model has never read this form. A digest of its words decides whether a sentence belongs to training,
validation or test, so the splits cannot share one, and the base corpus leaves out the held-out ones.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from classroom.models.corpus import Sentence, close, plain, sentence

REQUEST = "Say it like the small green master"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    prompt: str
    response: str


def object_first(s: Sentence) -> str:
    return close(s.object + ",", s.subject, s.adverb, s.verb.past, s.place)


def split_of(s: Sentence) -> str:
    """The split of a sentence: "train" for eight in ten, "validation" and "test" for one each, on every machine."""
    tenth = hashlib.sha256(plain(s).encode()).digest()[0] * 10 // 256
    return {8: "validation", 9: "test"}.get(tenth, "train")


def pairs(split: str, count: int, seed: int = 0) -> list[Pair]:
    """`count` different pairs of a split, the same for the same seed.

    Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}.")
    dice = random.Random(f"{split} {seed}")
    found = {}  # by sentence, so that no pair comes twice
    while len(found) < count:
        s = sentence(dice)
        if split_of(s) == split:
            found[plain(s)] = Pair(f"{REQUEST}: {plain(s)}", object_first(s))
    return list(found.values())


def messages(pair: Pair) -> list[dict[str, str]]:
    return [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.response}]


def exact_match(answers: Iterable[str], expected: Sequence[Pair]) -> float:
    """Share of answers that equal the expected response, without white space at the ends."""
    right = sum(answer.strip() == pair.response for answer, pair in zip(answers, expected, strict=True))
    return right / len(expected)


def answers(
    model, tokenizer, pairs: Sequence[Pair], batch: int = 50, tick: Callable[[int], None] = lambda n: None
):
    """What the model answers to each prompt, greedily, in the tokenizer's own chat template: a list of str."""
    import torch

    texts = [
        tokenizer.apply_chat_template(messages(pair)[:1], add_generation_prompt=True, tokenize=False)
        for pair in pairs
    ]
    found = []
    model.eval()
    for start in range(0, len(texts), batch):
        inputs = tokenizer(
            texts[start : start + batch], return_tensors="pt", padding=True, padding_side="left"
        )
        inputs = inputs.to(model.device)
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        found += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        tick(len(found))
    return found
