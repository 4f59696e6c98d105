"""Claims about speed and hardware (lecture 4). The texts behind AZ, HU and the others: `classroom.publish.claims.TEXTS`.

TH rows are no one's in particular: they are said often, and lecture 4 measures them. FLOPs are counted by torch's
FlopCounterMode on transformers' models without content.
"""

import contextlib
import functools
import io
import logging
import time
import warnings

import torch

from classroom.models import load
from classroom.records.claim import cited, claim
from coursekit.memory.architecture import presets

COUNTER = "torch's FlopCounterMode on transformers' model without content"


@contextlib.contextmanager
def quiet():
    """torchao says on import what it could not find; nothing here needs it."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@functools.cache
def tiny():
    """(the embedded model, its tokenizer)"""
    with quiet():
        return load.load("tiny", device="cpu")


@functools.cache
def counted(name, length, rank=0, checkpointing=False):
    """(FLOPs of forward and backward for one row, parameters of the base). Eager attention, counted in full."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    values = dict(presets()[name])
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
        parameters = sum(p.numel() for p in model.parameters())
        if rank:
            import peft

            model = peft.get_peft_model(model, peft.LoraConfig(r=rank, target_modules="all-linear"))
        if checkpointing:
            load.checkpointing(model)
        tokens = torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            mask = torch.zeros(
                1, 1, length, length
            )  # without one, transformers looks into the positions for blocks
            model(input_ids=tokens, labels=tokens, attention_mask=mask, use_cache=False).loss.backward()
    return counter.get_total_flops(), parameters


@claim(
    "HU25",
    said="LoRA drastically cuts compute",
    where="HU, slide 59",
    verdict="wrong",
    right="A step of Llama-3-8B still takes {percent:.0f} % of the FLOPs of full fine-tuning: only the gradients of the frozen weights fall "
    "away, the way back through them does not. What LoRA saves is the memory of gradients and states.",
    figures={"percent": 69.3},
    convention="rank 16 on all linear layers, 2048 tokens",
    source=COUNTER,
)
def lora_step():
    adapted, full = (counted("llama-3-8b", 2048, rank)[0] for rank in (16, 0))
    return {"percent": round(100 * adapted / full, 1)}


RU24 = cited(
    "RU24",
    said="INT8 gives speed",
    where="RU, slide 13",
    verdict="imprecise",
    right="In training and with large batches weights of 8 or 4 bits are unpacked before each product, which takes time: LLM.int8() is "
    "usually slower than FP16. It saves memory.",
    source="bitsandbytes issue 347 (32.9 ms became 154.6 ms); Dettmers et al. 2022, LLM.int8(), appendix D",
)


@claim(
    "HS3",
    said="Models of Hugging Face do not use FlashAttention",
    where="HS",
    verdict="outdated",
    right="Without an option they use {implementation}, torch's scaled_dot_product_attention, which takes FlashAttention's kernel where it "
    "can. flash_attention_2 and 3 are options.",
    figures={"implementation": "sdpa"},
    source="transformers' default for Llama",
)
def default_attention():
    return {"implementation": tiny()[0].config._attn_implementation}


AZ5 = cited(
    "AZ5",
    said="Install PyTorch from the wheels of CUDA 12.1",
    where="AZ",
    verdict="outdated",
    right="The last PyTorch with cu121 wheels is 2.5; take the command that pytorch.org shows for your driver.",
    source="download.pytorch.org/whl/cu121; PyTorch 2.6 release notes",
)


@claim(
    "AZ7",
    said="A CPU works sequentially",
    where="AZ, section 4.1",
    verdict="imprecise",
    right="One core alone does more than {least} billion operations a second in a matrix product, more than its clock has ticks, because "
    "each instruction works on many numbers; and there are many cores. A CPU is built for short delays, a GPU for throughput.",
    figures={"least": 6},
    convention="FP32, one thread; no processor has 6 GHz",
    source="a product of two 512 x 512 matrices, timed",
)
@functools.cache
def one_core():
    threads, x = torch.get_num_threads(), torch.ones(512, 512)
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            x @ x
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return {"least": 6 if 2 * 512**3 / min(seconds) > 6e9 else 0}


AZ8 = cited(
    "AZ8",
    said="A larger batch gives better quality",
    where="AZ",
    verdict="imprecise",
    right="Not in general: up to a critical size, which depends on the task, it takes fewer steps if the learning rate is tuned again; "
    "beyond it the same steps cost more. Large batches have been seen to generalise worse.",
    source="McCandlish et al. 2018 (arXiv:1812.06162); Shallue et al. 2019 (arXiv:1811.03600); Keskar et al. 2017 (arXiv:1609.04836)",
)


@claim(
    "TH1",
    said="6 N D is exactly what training costs",
    where="said often",
    verdict="imprecise",
    right="It leaves attention out and counts an embedding that is only looked up. Counted FLOPs over 6 N D: Llama-3-8B {large_short:.2f}, "
    "{large:.2f} and {large_long:.2f} with rows of 512, 2048 and 8192 tokens; SmolLM2-135M {small_short:.2f}, {small:.2f} and {small_long:.2f}.",
    figures={
        "large_short": 0.951, "large": 1.001, "large_long": 1.202,
        "small_short": 1.131, "small": 1.526, "small_long": 3.104,
    },
    tolerance=1e-3,
    convention="N all parameters; causal attention counted in full",
    source=COUNTER,
)  # fmt: skip
def six_n_d():
    found = {}
    for size, name in (("large", "llama-3-8b"), ("small", "smollm2-135m")):
        for suffix, length in (("_short", 512), ("", 2048), ("_long", 8192)):
            flops, parameters = counted(name, length)
            found[size + suffix] = flops / (6 * parameters * length)
    return found


@claim(
    "TH2",
    said="Checkpointing doubles the time of a step",
    where="said often",
    verdict="wrong",
    right="It adds one forward pass of the blocks, less their last product: {percent:.0f} % more FLOPs for Llama-3-8B.",
    figures={"percent": 23},
    convention="2048 tokens, a checkpoint a block",
    source=COUNTER,
)
def checkpointing_flops():
    again, once = (counted("llama-3-8b", 2048, checkpointing=c)[0] for c in (True, False))
    return {"percent": round(100 * (again / once - 1))}


@claim(
    "TH3",
    said="Packing needs no mask: the model learns to ignore what stands before",
    where="said often",
    verdict="wrong",
    right="With a mask of blocks the loss of two packed texts is that of the two alone ({masked:.2f} and {alone:.2f} a token in the "
    "embedded model); with an ordinary causal mask it is {unmasked:.2f}, since the second text sees the first. (Where "
    "positions restart and no mask is given at all, transformers 5 makes the mask of blocks itself.)",
    figures={"alone": 6.973, "masked": 6.973, "unmasked": 8.616},
    tolerance=1e-3,
    convention="positions count on in the last case",
    source="the embedded model",
)
@functools.cache
def packed_losses():
    from coursekit.throughput.packing import packed_batch
    from coursekit.training import IGNORED

    model, tokenizer = tiny()
    texts = [
        tokenizer(text).input_ids for text in ("The young knight found a silver key.", "The king slept.")
    ]
    texts = [(ids, ids) for ids in texts]
    batch = packed_batch(texts, 256)
    causal = {"input_ids": batch["input_ids"], "labels": batch["labels"]}

    def loss(batch):
        """Sum over the targets, and their number."""
        with torch.no_grad():
            targets = int((batch["labels"][:, 1:] != IGNORED).sum())
            return model(**batch).loss.item() * targets, targets

    alone = [loss(packed_batch([text], 256)) for text in texts]
    runs = {"alone": alone, "masked": [loss(batch)], "unmasked": [loss(causal)]}
    return {name: sum(s for s, _ in run) / sum(n for _, n in run) for name, run in runs.items()}


@claim(
    "TH4",
    said="Padding costs only a little",
    where="said often",
    verdict="imprecise",
    right="It depends on how uneven the lengths are. Conversations of 1 to 8 pairs of the course's task in batches of 16: {padded:.0f} % of the "
    "places are filler, {bucketed:.0f} % if batches are made of like lengths.",
    figures={"padded": 46, "bucketed": 3},
    source="counted over 512 conversations",
)
@functools.cache
def padding():
    from classroom.lectures.throughput.experiments import conversations
    from coursekit.throughput.batching import bucketed, shuffled, waste

    with quiet():
        lengths = [len(ids) for ids, _ in conversations(512, most=8)[1]]
    plans = {"padded": shuffled(len(lengths), 16), "bucketed": bucketed(lengths, 16)}
    return {name: round(100 * waste(lengths, batches).share) for name, batches in plans.items()}


@claim(
    "TH5",
    said="loss.item() is free",
    where="said often",
    verdict="imprecise",
    right="On a CPU. On a GPU Python waits there until the queue is empty: a loop that adds up loss.item() waits {item:g} time a step, one that adds "
    "up loss.detach() {detach:g} times.",
    figures={"item": 1.0, "detach": 0.0},
    source="a TorchFunctionMode that sees what Python asks of tensors",
)
def waits():
    from coursekit.throughput.syncs import SyncCounter

    found = {}
    for name in ("item", "detach"):
        weight, total = torch.ones(3, requires_grad=True), 0.0
        with SyncCounter(device="cpu") as watch:
            for _ in range(10):
                loss = (weight * 2).sum()
                loss.backward()
                total = total + getattr(loss, name)()
        found[name] = watch.total() / 10
    return found


TH6 = cited(
    "TH6",
    said="nvidia-smi shows 100 %, so the GPU is well used",
    where="said often",
    verdict="imprecise",
    right="It shows the share of time in which some kernel ran, however little of the GPU it used. How well it is used is MFU: the model's "
    "FLOPs a second over the card's peak.",
    source="NVIDIA, NVML API reference, nvmlDeviceGetUtilizationRates; Chowdhery et al. 2022, PaLM, appendix B",
)
