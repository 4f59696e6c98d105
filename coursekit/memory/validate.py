"""Plans that cannot be: refused with the reason, and what would be possible instead."""

from __future__ import annotations

from coursekit.memory.architecture import Architecture, linear_layers
from coursekit.memory.config import LARGEST, shown
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS

CHOICES = {
    "ledger": tuple(LEDGERS),
    "optimizer": tuple(OPTIMIZERS),
    "attention": ("sdpa", "eager"),
    "implementation": (None, "for-loop", "foreach", "fused"),
    "quantization": (None, "nf4"),
    "offload": (None, "optimizer", "parameters"),
    "zero_stage": (0, 1, 2, 3),
    "device": ("cuda", "cpu"),
}


def reject_impossible(plan, a: Architecture) -> None:
    """Raises ValueError with the reason if nobody could run `plan`."""
    for name in ("batch", "sequence", "accumulation", "world_size"):
        whole(name, getattr(plan, name), at_least=1)
    for name in ("lora_rank", "zero_stage"):
        whole(name, getattr(plan, name), at_least=0)
    for name, allowed in CHOICES.items():
        if getattr(plan, name) not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"{name} must be one of {listed}; got {getattr(plan, name)!r}.")
    if not isinstance(plan.lora_dropout, (int, float)) or not 0 <= plan.lora_dropout < 1:
        raise ValueError(f"lora_dropout is a probability below 1; got {plan.lora_dropout!r}.")
    for rule in (_positions, _adapters, _quantised, _sharding):
        rule(plan, a)


def whole(name: str, value, at_least: int) -> None:
    """Raises ValueError if `value` is not a whole number from `at_least` to 10^9."""
    what = "ranks (GPUs)" if name == "world_size" else name
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{what} must be a whole number of at least {at_least}; got {name}={shown(value)}.")
    if value > LARGEST:
        raise ValueError(f"{what} must be {LARGEST:,} at most; got {name}={shown(value)}.")


def _positions(plan, a: Architecture) -> None:
    if a.positions and plan.sequence > a.positions:
        raise ValueError(
            f"this model has learned {a.positions} positions, so sequence can be {a.positions} at most; "
            f"got {plan.sequence}."
        )


def _adapters(plan, a: Architecture) -> None:
    if not plan.lora_rank:
        return
    layers = {w.name.split(".")[-2]: w.shape for w in linear_layers(a, a.layers - 1)}
    if plan.lora_targets == "all-linear":
        targets = list(layers)
    elif not isinstance(plan.lora_targets, (tuple, list, set, frozenset)):
        raise ValueError(f'lora_targets is "all-linear" or a tuple of names; got {plan.lora_targets!r}.')
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
            f"a LoRA of rank {plan.lora_rank} is larger than the smallest layer it would adapt (width {width}): "
            "it could not save anything. Use a rank far below the width, 4 to 64."
        )


def _quantised(plan, a: Architecture) -> None:
    if plan.quantization and not plan.lora_rank:
        raise ValueError(
            "weights in 4 bits cannot be trained: an update is far smaller than the distance of two codes. "
            "Give lora_rank, and the adapters are trained (QLoRA)."
        )
    if plan.quantization and a.experts:
        raise ValueError(
            "the experts of this model are one 3-D tensor, which bitsandbytes does not replace: quantising would leave "
            "most of the model as it is. Plan it without quantisation."
        )
    if plan.quantization and plan.ledger.startswith("master"):
        raise ValueError(
            "a frozen 4-bit base has no master weights; choose the ledger 'bf16', 'amp' or 'fp32'."
        )
    if plan.kbit_preparation and not plan.quantization:
        raise ValueError(
            "kbit_preparation is a step of QLoRA; without quantisation there is nothing to prepare."
        )


def _sharding(plan, a: Architecture) -> None:
    if plan.offload == "parameters" and plan.zero_stage < 3:
        raise ValueError(
            f"stage {plan.zero_stage} keeps all weights on every GPU, so it has none to offload: offload='parameters' "
            "needs zero_stage=3. Stages 1 and 2 can offload the optimizer."
        )
    if plan.offload == "optimizer" and plan.zero_stage == 0:
        raise ValueError(
            "without ZeRO nothing manages the offload of the optimizer; use zero_stage=1 or a paged optimizer."
        )
    if plan.zero_stage == 3 and plan.quantization:
        raise ValueError(
            "stage 3 cannot shard bitsandbytes' 4-bit weights as it shards others; each rank holds the whole quantised "
            "base (zero_stage 0 to 2)."
        )
