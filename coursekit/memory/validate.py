"""Impossible plans, rejected with the reason and with what would be possible instead."""

from __future__ import annotations

from coursekit.memory.architecture import Architecture, linear_layers
from coursekit.memory.config import LARGEST, shown
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS
from coursekit.memory.plan import Plan

CHOICES = {  # fields of a plan that take one of a few values
    "ledger": tuple(LEDGERS),
    "optimizer": tuple(OPTIMIZERS),
    "attention": ("sdpa", "eager"),
    "implementation": (None, "for-loop", "foreach", "fused"),
    "quantization": (None, "nf4"),
    "offload": (None, "optimizer", "parameters"),
    "zero_stage": (0, 1, 2, 3),
    "device": ("cuda", "cpu"),
}


def reject_impossible(plan: Plan, a: Architecture) -> None:
    """Raise ValueError with the reason if `plan` cannot run.

    >>> from coursekit.memory.architecture import architecture_of
    >>> reject_impossible(Plan("gpt2", batch=0), architecture_of("gpt2"))
    Traceback (most recent call last):
    ValueError: batch must be a whole number of at least 1; got batch=0.
    """
    for name in ("batch", "sequence", "accumulation", "world_size"):
        whole(name, getattr(plan, name), at_least=1)
    for name in ("lora_rank", "zero_stage"):
        whole(name, getattr(plan, name), at_least=0)
    for name, allowed in CHOICES.items():
        if getattr(plan, name) not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"{name} must be one of {listed}; got {getattr(plan, name)!r}.")
    if not isinstance(plan.lora_dropout, (int, float)) or not 0 <= plan.lora_dropout < 1:  # NaN is not
        raise ValueError(f"lora_dropout must be a probability below 1; got {plan.lora_dropout!r}.")
    for rule in (_positions, _adapters, _quantised, _sharding):  # these compare fields, which are valid now
        rule(plan, a)


def whole(name: str, value, at_least: int) -> None:
    """Raise ValueError if `value` is not a whole number from `at_least` to 10^9."""
    what = "ranks (GPUs)" if name == "world_size" else name
    # bool is a subclass of int, but True is not a number of GPUs
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{what} must be a whole number of at least {at_least}; got {name}={shown(value)}.")
    if value > LARGEST:
        raise ValueError(f"{what} must be {LARGEST:,} at most; got {name}={shown(value)}.")


def _positions(plan, a: Architecture) -> None:
    if a.positions and plan.sequence > a.positions:
        raise ValueError(
            f"sequence can be {a.positions} at most, because this model has learned {a.positions} positions; "
            f"got {plan.sequence}."
        )


def _adapters(plan, a: Architecture) -> None:
    if not plan.lora_rank:
        return
    layers = {w.name.split(".")[-2]: w.shape for w in linear_layers(a, a.layers - 1)}
    if plan.lora_targets == "all-linear":
        targets = list(layers)
    elif not isinstance(plan.lora_targets, (tuple, list, set, frozenset)):
        raise ValueError(f'lora_targets must be "all-linear" or a tuple of names; got {plan.lora_targets!r}.')
    else:
        targets = plan.lora_targets
    unknown = [name for name in targets if name not in layers]
    if unknown or not targets:
        raise ValueError(
            f"no linear layer of this model is called {', '.join(map(str, unknown)) or 'nothing'}; it has "
            f"{', '.join(layers)}."
        )
    width = min(min(layers[name]) for name in targets)
    if plan.lora_rank > width:
        raise ValueError(
            f"the LoRA rank {plan.lora_rank} is larger than the smallest layer it would adapt (width {width}), so it "
            "could not save anything. Use a rank far below the width, 4 to 64."
        )


def _quantised(plan, a: Architecture) -> None:
    if plan.quantization and not plan.lora_rank:
        raise ValueError(
            "weights in 4 bits cannot be trained: an update is far smaller than the distance between two codes. "
            "Set lora_rank to train adapters instead (QLoRA)."
        )
    if plan.quantization and a.experts:
        raise ValueError(
            "quantization would leave most of this model as it is: its experts are one 3-D tensor, which bitsandbytes "
            "does not replace. Plan it without quantization."
        )
    if plan.quantization and plan.ledger.startswith("master"):
        raise ValueError(
            "a frozen 4-bit base has no master weights; choose the ledger 'bf16', 'amp' or 'fp32'."
        )
    if plan.kbit_preparation and not plan.quantization:
        raise ValueError("kbit_preparation needs quantization='nf4': without it there is nothing to prepare.")


def _sharding(plan, a: Architecture) -> None:
    if plan.offload == "parameters" and plan.zero_stage < 3:
        raise ValueError(
            f"offload='parameters' needs zero_stage=3: stage {plan.zero_stage} keeps all weights on every GPU. "
            "Stages 1 and 2 can offload the optimizer."
        )
    if plan.offload == "optimizer" and plan.zero_stage == 0:
        raise ValueError(
            "offload='optimizer' needs ZeRO, which manages it; use zero_stage=1 or a paged optimizer."
        )
    if plan.zero_stage == 3 and plan.quantization:
        raise ValueError(
            "stage 3 cannot shard bitsandbytes' 4-bit weights; use zero_stage 0 to 2, where each rank holds the "
            "whole quantised base."
        )
