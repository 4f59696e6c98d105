"""Claims about mixed precision (lecture 2). The texts behind HU, RU and the others: `classroom.publish.claims.TEXTS`."""

import functools

import torch

from classroom.lectures.amp import experiments
from classroom.records.claim import cited, claim

PAPER = "Micikevicius et al., Mixed Precision Training, ICLR 2018 (arXiv:1710.03740)"

HU1 = cited(
    "HU1",
    said='The recipe of mixed precision is from "Sharang et al. 2018"',
    where="HU, slides 13 and 16",
    verdict="wrong",
    right="It is from Micikevicius, Narang and others, ICLR 2018.",
    source=PAPER,
)


@functools.cache
def bytes_per_parameter(name):
    """Count what stays after one step of the embedded model: {what: bytes per parameter}."""
    return experiments.bytes_per_parameter(experiments.PRECISION_RECIPES[name])


def dtypes_under_autocast():
    """Name the dtypes of a weight, its gradient and Adam's first state after a step under torch.autocast."""
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    with torch.autocast("cpu", torch.float16):
        loss = layer(torch.ones(2, 4)).float().sum()
    loss.backward()
    optimizer.step()
    tensors = (layer.weight, layer.weight.grad, optimizer.state[layer.weight]["exp_avg"])
    return [str(t.dtype).removeprefix("torch.") for t in tensors]


@claim(
    "HU5",
    said="Weights in FP16 and a master copy in FP32: that is how it is done",
    where="HU",
    verdict="imprecise",
    right="That is one recipe (Apex O2, DeepSpeed). torch.amp casts for each operation: after a step the weights are "
    "{weights}, their gradients {gradients}, Adam's states {states}.",
    figures={"weights": "float32", "gradients": "float32", "states": "float32"},
    source="torch.autocast",
)
def weights_under_autocast():
    return dict(zip(("weights", "gradients", "states"), dtypes_under_autocast(), strict=True))


@claim(
    "HU6",
    said="autocast uses FP16, or BF16 if that is available and better",
    where="HU",
    verdict="wrong",
    right="It does not choose. The default is {cuda} on every CUDA device and {cpu} on a CPU.",
    figures={"cuda": "float16", "cpu": "bfloat16"},
    source="torch.get_autocast_dtype",
)
def default_dtypes():
    return {d: str(torch.get_autocast_dtype(d)).removeprefix("torch.") for d in ("cuda", "cpu")}


HU7 = cited(
    "HU7",
    said="autocast often chooses BF16 automatically",
    where="HU",
    verdict="wrong",
    right="It never chooses; see HU6. Ask for BF16 by name.",
    source="PyTorch documentation, torch.amp: torch.autocast, parameter dtype",
)

HU8 = cited(
    "HU8",
    said="torch.cuda.amp.autocast and torch.cuda.amp.GradScaler",
    where="HU",
    verdict="outdated",
    right='Deprecated since PyTorch 2.4: torch.amp.autocast("cuda") and torch.amp.GradScaler("cuda").',
    source="PyTorch 2.4 release notes, deprecations",
)


@claim(
    "HU11",
    said="Parameters and gradients are FP16 in mixed precision",
    where="HU",
    verdict="imprecise",
    right="They are in the convention of DeepSpeed and Megatron. Under torch.amp a parameter has {weights:g} bytes of weight "
    "and {gradients:g} of gradient: both are FP32.",
    figures={"weights": 4.0, "gradients": 4.0},
    source="counted after one step of the embedded model",
)
def parameters_and_gradients():
    held = bytes_per_parameter("FP16 autocast + scaling")
    return {kind: held[kind] for kind in ("weights", "gradients")}


@claim(
    "HU12",
    said="Mixed precision training takes 16 bytes per parameter",
    where="HU, slide 31",
    verdict="imprecise",
    right="It depends on the recipe. Counted: FP32 {fp32:g}, autocast {autocast:g}, FP16 weights with masters and FP32 "
    "gradients {masters:g}, BF16 alone {bf16:g}. Masters with FP16 gradients take 16, with gradients of both kinds 20.",
    figures={"fp32": 16.0, "autocast": 16.0, "masters": 18.0, "bf16": 8.0},
    source="counted after one step of the embedded model",
)
def ledgers():
    names = {
        "fp32": "FP32",
        "autocast": "FP16 autocast + scaling",
        "masters": "FP16 + master + scaling",
        "bf16": "BF16 only",
    }
    return {key: sum(bytes_per_parameter(name).values()) for key, name in names.items()}


@claim(
    "HU15",
    said="One flow chart for FP16 weights with masters and for torch.amp",
    where="HU, slide 14",
    verdict="imprecise",
    right="They are two recipes: with masters a parameter has {masters:g} bytes of master weight, under torch.amp "
    "{autocast:g}, because the weight itself is FP32.",
    figures={"masters": 4.0, "autocast": 0.0},
    source=PAPER + ", section 3.1",
)
def masters_of_two_recipes():
    names = {"masters": "FP16 + master + scaling", "autocast": "FP16 autocast + scaling"}
    return {key: bytes_per_parameter(name)["master weights"] for key, name in names.items()}


@claim(
    "AZ1",
    said="AMP stores weights and gradients in FP16",
    where="AZ",
    verdict="wrong",
    right="torch.amp keeps the weights in {weights} and the gradients in {gradients}.",
    figures={"weights": "float32", "gradients": "float32"},
    source="torch.autocast",
)
def what_amp_stores():
    weights, gradients, _ = dtypes_under_autocast()
    return {"weights": weights, "gradients": gradients}


@claim(
    "AZ2",
    said="Mixed precision halves the memory of the GPU",
    where="AZ",
    verdict="wrong",
    right="Weights, gradients and Adam take {fp32:g} bytes per parameter in FP32 and {autocast:g} under autocast; only "
    "activations shrink.",
    figures={"fp32": 16.0, "autocast": 16.0},
    source="counted after one step of the embedded model",
)
def states_stay():
    names = {"fp32": "FP32", "autocast": "FP16 autocast + scaling"}
    return {key: sum(bytes_per_parameter(name).values()) for key, name in names.items()}


@claim(
    "RU44",
    said="fp16=True, or bf16=True, together with computing in BF16",
    where="RU, slide 45",
    verdict="imprecise",
    right='They are not interchangeable. With FP16 weights a scaler raises "{error}"; for BF16 weights it has no kernel on '
    "a GPU.",
    figures={"error": "Attempting to unscale FP16 gradients."},
    source="torch.amp.GradScaler",
)
def scaler_and_fp16_weights():
    weight = torch.ones(1, dtype=torch.float16, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(weight.float().sum()).backward()
    try:
        scaler.step(torch.optim.SGD([weight], lr=1.0))
    except ValueError as error:
        return {"error": str(error)}
    return {"error": "none"}
