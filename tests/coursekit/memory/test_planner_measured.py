"""The planner beside a real step of the embedded model: every byte that the CPU's allocator gave and took.

0.1 % is asked for and about 0.005 % is there; what remains are scalars and masks of a few hundred bytes. What a product
of matrices takes for itself is left out (`scratch=False`): in BF16 it is another amount on each kind of processor.
"""

import pytest
import torch

from classroom.models.load import load
from coursekit.memory.measure import measure
from coursekit.memory.planner import Plan, estimate

PARITY = 1e-3
SHAPES = [(8, 48), (4, 256)]


def adapted(model, rank=16, targets="all-linear", dropout=0.0):
    from peft import LoraConfig, get_peft_model

    names = targets if isinstance(targets, str) else list(targets)
    return get_peft_model(
        model, LoraConfig(r=rank, target_modules=names, lora_dropout=dropout, task_type="CAUSAL_LM")
    )


def built(plan):
    """The model that `plan` describes, made by the libraries."""
    from peft import prepare_model_for_kbit_training

    dtype = "bfloat16" if plan.ledger == "bf16" else "float32"
    model, _ = load("tiny", device=plan.device, dtype=dtype, quantization=plan.quantization)
    model.config._attn_implementation = plan.attention
    if plan.quantization and plan.kbit_preparation is not False:
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=plan.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    elif plan.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if plan.lora_rank:
        model = adapted(model, plan.lora_rank, plan.lora_targets, plan.lora_dropout)
        if plan.checkpointing:
            model.enable_input_require_grads()
    return model.train()


OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda ps, **more: torch.optim.SGD(ps, 1e-3, **more),
    "sgd-momentum": lambda ps, **more: torch.optim.SGD(ps, 1e-3, momentum=0.9, **more),
    "adafactor": lambda ps: torch.optim.Adafactor(ps, 1e-3),
}
IMPLEMENTATIONS = {
    None: {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def both(tokens, batch, sequence, device="cpu", **settings):
    """(estimate, measured) of one plan."""
    plan = Plan("tiny", batch, sequence, device=device, **{"ledger": "fp32"} | settings)
    model = built(plan)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS[plan.optimizer](trained, **IMPLEMENTATIONS[plan.implementation])
    autocast = (lambda: torch.autocast(device, torch.bfloat16)) if plan.ledger == "amp" else None
    batches = [
        {name: tensor.to(device) for name, tensor in batch.items()}
        for batch in tokens(batch, sequence, plan.accumulation)
    ]
    return estimate(plan), measure(model, optimizer, batches, autocast=autocast, scratch=False)


def backward(found):
    return max(found.peaks["start of backward"], found.peaks["end of backward"])


def agree(found, real, tolerance=PARITY, forward=0.015):
    """The peaks of a step, of backward, of the optimizer; what stays, to the byte. The forward pass, which is never
    the peak of a step, holds a few results a little longer under PEFT's wrappers."""
    assert found.peak_bytes == pytest.approx(real.peak, rel=tolerance)
    assert backward(found) == pytest.approx(real.peaks["backward"], rel=PARITY)
    assert found.peaks["optimizer step"] == pytest.approx(real.peaks["optimizer"], rel=PARITY)
    assert found.peaks["forward"] == pytest.approx(real.peaks["forward"], rel=max(forward, tolerance))
    assert found.phases["forward"]["weights"] == real.weights
    assert found.phases["forward"]["optimizer states"] == real.optimizer
    assert found.phases["optimizer step"]["gradients"] == real.gradients


FULL = {
    "plain": {},
    "eager": {"attention": "eager"},
    "three micro-batches": {"accumulation": 3},
    "checkpointed": {"checkpointing": True},
    "checkpointed, three micro-batches": {"checkpointing": True, "accumulation": 3},
    "checkpointed, eager": {"checkpointing": True, "attention": "eager"},
    "bf16": {"ledger": "bf16"},
    "bf16, checkpointed": {"ledger": "bf16", "checkpointing": True},
}


@pytest.mark.parametrize("shape", [(2, 64), *SHAPES])
@pytest.mark.parametrize("name", FULL)
def test_all_weights_are_trained(name, shape, tokens):
    found, real = both(tokens, *shape, **FULL[name])
    agree(found, real, forward=1e-2 if "eager" in name else 1e-3)  # eager attention copies one result


QV = ("q_proj", "v_proj")
ADAPTED = {
    "all-linear": {},
    "q and v": {"lora_targets": QV, "lora_rank": 8},
    "dropout": {"lora_dropout": 0.1},
    "checkpointed": {"checkpointing": True},
    "checkpointed, two micro-batches": {"checkpointing": True, "accumulation": 2},
    "bf16": {"ledger": "bf16"},
    "4 bits": {"quantization": "nf4"},
    "4 bits, not prepared": {"quantization": "nf4", "kbit_preparation": False},
    "4 bits, checkpointed": {"quantization": "nf4", "checkpointing": True},
    "4 bits, bf16": {"quantization": "nf4", "ledger": "bf16"},
    "4 bits, bf16, not prepared": {"quantization": "nf4", "kbit_preparation": False, "ledger": "bf16"},
    "4 bits, bf16, checkpointed": {"quantization": "nf4", "checkpointing": True, "ledger": "bf16"},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_are_trained(name, shape, tokens):
    found, real = both(tokens, *shape, **{"lora_rank": 16} | ADAPTED[name])
    agree(found, real)


OPTIMIZED = [
    ("adamw", "for-loop"),
    ("adamw", "foreach"),
    ("adamw", "fused"),
    ("sgd", None),
    ("sgd-momentum", None),
    ("adafactor", None),
]


@pytest.mark.parametrize(("optimizer", "implementation"), OPTIMIZED)
def test_every_optimizer(optimizer, implementation, tokens):
    """At (2, 16) the step of the optimizer is the peak wherever it takes memory of its own."""
    found, real = both(tokens, 2, 16, optimizer=optimizer, implementation=implementation)
    agree(found, real, forward=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_autocast(shape, checkpointing, tokens):
    """The peak within 3 %: beside products, the CPU's 16-bit kernels cast into temporaries of FP32, which a GPU does
    in registers. They fall into the forward pass; backward is within 0.1 % as everywhere."""
    found, real = both(tokens, *shape, ledger="amp", checkpointing=checkpointing)
    agree(found, real, tolerance=0.03)


WRONG = {
    "SDPA for eager": ({"attention": "eager"}, {"attention": "sdpa"}),
    "no checkpointing for checkpointing": ({"checkpointing": True}, {"checkpointing": False}),
    "all layers for q and v": ({"lora_rank": 8, "lora_targets": QV}, {"lora_targets": "all-linear"}),
    "one micro-batch for three": ({"accumulation": 3}, {"accumulation": 1}),
    "no dropout for dropout": ({"lora_rank": 8, "lora_dropout": 0.1}, {"lora_dropout": 0.0}),
}


@pytest.mark.parametrize("planted", WRONG)
def test_a_plan_of_something_else_is_caught(planted, tokens):
    """The bound is narrow enough to tell the plans apart."""
    from dataclasses import replace

    settings, mistake = WRONG[planted]
    found, real = both(tokens, 4, 128, **settings)
    wrong = estimate(replace(found.plan, **mistake))
    assert wrong.peak_bytes != pytest.approx(real.peak, rel=10 * PARITY)


ON_A_GPU = {
    "bf16": {"ledger": "bf16"},
    "fp32": {},
    "checkpointed": {"ledger": "bf16", "checkpointing": True},
    "adapters": {"ledger": "bf16", "lora_rank": 16},
    "amp": {"ledger": "amp"},
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_A_GPU)
def test_the_embedded_model_on_a_gpu(name, tokens):
    """Within 2 % of max_memory_allocated; the allocator rounds up to 512 bytes."""
    torch.backends.cuda.matmul.allow_tf32 = False
    found, real = both(tokens, 16, 512, device="cuda", **ON_A_GPU[name])
    assert found.peak_bytes == pytest.approx(real.peak, rel=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True])
def test_four_layers_of_llama_on_a_gpu(checkpointing, tokens, config_of):
    """A shape of the hub, content at random, BF16, the optimizer that torch chooses on a GPU; within 2 %."""
    from transformers import AutoModelForCausalLM

    config = config_of("llama-3.2-1b", layers=4)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    batch = {name: tensor.cuda() for name, tensor in tokens(4, 1024)[0].items()}
    real = measure(model, torch.optim.AdamW(model.parameters()), [batch])
    found = estimate(Plan(config, 4, 1024, ledger="bf16", checkpointing=checkpointing, device="cuda"))
    assert found.peak_bytes == pytest.approx(real.peak, rel=0.02)
