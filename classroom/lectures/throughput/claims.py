"""Check claims about speed and hardware (lecture 4). The texts behind AZ, HU and the others: see
`classroom.publish.claims.TEXTS`.

TH rows have no single source: they are said often, and lecture 4 measures them. torch's FlopCounterMode counts FLOPs on
transformers' models on the meta device.
"""

import functools
import time

import torch

from classroom.models.load import checkpointing as checkpoint_blocks
from classroom.models.load import load, quiet
from classroom.records.claim import cited, claim
from coursekit.memory.architecture import presets

COUNTER = "torch's FlopCounterMode on transformers' model on the meta device"


@functools.cache
def tiny():
    """(the embedded model, its tokenizer)"""
    return load("tiny", device="cpu")


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
            checkpoint_blocks(model)
        tokens = torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            # without a mask, transformers looks into the positions for blocks
            mask = torch.zeros(1, 1, length, length)
            model(input_ids=tokens, labels=tokens, attention_mask=mask, use_cache=False).loss.backward()
    return counter.get_total_flops(), parameters


@claim(
    "HU25",
    said="LoRA drastically cuts compute",
    where="HU, slide 59",
    verdict="wrong",
    right="A step of Llama-3-8B still takes {percent:.0f} % of the FLOPs of full fine-tuning: only the gradients of the frozen weights are "
    "saved, because backward must still pass through these weights. LoRA saves the memory of gradients and states.",
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
    right="In training and with large batches weights of 8 or 4 bits are unpacked before each product, which takes time. LLM.int8() is "
    "usually slower than FP16. It saves memory.",
    source="bitsandbytes issue 347 (32.9 ms became 154.6 ms); Dettmers et al. 2022, LLM.int8(), appendix D",
)


@claim(
    "HS3",
    said="Models of Hugging Face do not use FlashAttention",
    where="HS",
    verdict="outdated",
    right="By default they use {implementation}, torch's scaled_dot_product_attention, which takes FlashAttention's kernel where it "
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
    right="The last PyTorch with cu121 wheels is 2.5; use the command that pytorch.org shows for your driver.",
    source="download.pytorch.org/whl/cu121; PyTorch 2.6 release notes",
)


@claim(
    "AZ7",
    said="A CPU works sequentially",
    where="AZ, section 4.1",
    verdict="imprecise",
    right="One core alone does more than {least} billion operations a second in a matrix product, more than its clock has cycles, because "
    "each instruction works on many numbers; and there are many cores. A CPU is built for low latency, a GPU for throughput.",
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
    right="Not in general: up to a critical size, which depends on the task, it needs fewer steps if the learning rate is tuned again; "
    "beyond it the same steps cost more. In some experiments large batches generalised worse.",
    source="McCandlish et al. 2018 (arXiv:1812.06162); Shallue et al. 2019 (arXiv:1811.03600); Keskar et al. 2017 (arXiv:1609.04836)",
)


@claim(
    "TH1",
    said="6 N D is exactly what training costs",
    where="said often",
    verdict="imprecise",
    right="It leaves attention out, and it counts an embedding that is only looked up. Counted FLOPs divided by 6 N D: Llama-3-8B {large_short:.2f}, "
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
    right="It adds one forward pass of the blocks, without their last product: {percent:.0f} % more FLOPs for Llama-3-8B.",
    figures={"percent": 23},
    convention="2048 tokens, one checkpoint per block",
    source=COUNTER,
)
def checkpointing_flops():
    again, once = (counted("llama-3-8b", 2048, checkpointing=c)[0] for c in (True, False))
    return {"percent": round(100 * (again / once - 1))}


@claim(
    "TH3",
    said="Packing needs no mask: the model learns to ignore the texts before",
    where="said often",
    verdict="wrong",
    right="With a mask of blocks the loss of two packed texts is that of the two alone ({masked:.2f} and {alone:.2f} per token in the "
    "embedded model); with an ordinary causal mask it is {unmasked:.2f}, since the second text sees the first. (Where "
    "positions restart and no mask is given at all, transformers 5 makes the mask of blocks itself.)",
    figures={"alone": 6.973, "masked": 6.973, "unmasked": 8.616},
    tolerance=1e-3,
    convention="positions keep counting in the last case",
    source="the embedded model",
)
@functools.cache
def packed_losses():
    from classroom.lectures.throughput.experiments import loss_per_target
    from coursekit.throughput.packing import packed_batch

    model, tokenizer = tiny()
    texts = []
    for words in ("The young knight found a silver key.", "The king slept."):
        ids = tokenizer(words).input_ids
        texts.append((ids, ids))
    batch = packed_batch(texts, 256)
    causal = {name: batch[name] for name in ("input_ids", "labels")}
    alone = [packed_batch([text], 256) for text in texts]
    runs = {"alone": alone, "masked": [batch], "unmasked": [causal]}
    return {name: loss_per_target(model, batches) for name, batches in runs.items()}


@claim(
    "TH4",
    said="Padding costs only a little",
    where="said often",
    verdict="imprecise",
    right="It depends on how uneven the lengths are. For conversations of 1 to 8 pairs of the course's task in batches of 16, {padded:.0f} % of the "
    "slots are padding, and {bucketed:.0f} % if batches hold texts of like length.",
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
    right="Only on a CPU. On a GPU Python waits there until the queue is empty: a loop that adds up loss.item() waits {item:g} time per step, one that adds "
    "up loss.detach() {detach:g} times.",
    figures={"item": 1.0, "detach": 0.0},
    source="a TorchFunctionMode that counts what Python asks of tensors",
)
def waits():
    from coursekit.throughput.syncs import SyncCounter

    found = {}
    for name in ("item", "detach"):
        weight, total = torch.ones(3, requires_grad=True), 0.0
        with SyncCounter(device="cpu") as counter:
            for _ in range(10):
                loss = (weight * 2).sum()
                loss.backward()
                total = total + getattr(loss, name)()
        found[name] = counter.total() / 10
    return found


TH6 = cited(
    "TH6",
    said="nvidia-smi shows 100 %, so the GPU is well used",
    where="said often",
    verdict="imprecise",
    right="It shows the share of time in which some kernel ran, however little of the GPU it used. MFU says how well the GPU is used: the model's "
    "FLOPs per second divided by the card's peak.",
    source="NVIDIA, NVML API reference, nvmlDeviceGetUtilizationRates; Chowdhery et al. 2022, PaLM, appendix B",
)
