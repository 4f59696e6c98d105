"""What others estimate: the formulas that are quoted everywhere, to be held against the same step.

    korthikanti     activations of a GPT layer: s b h (34 + 5 a s / h) bytes, all layers, plus the states
    eleuther        "Transformer Math 101": the same activations (or those of full recomputation) + states of mixed
    precision accelerate      `accelerate estimate-memory`: a multiple of the weights
    deepspeed       `estimate_zero2_model_states_mem_needs`: states only

Each adds terms that do not live at once, or leaves some out; what the difference is, the lecture measures.
"""

from __future__ import annotations

from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.ledger import LEDGERS


def korthikanti_layer(batch: int, sequence: int, hidden: int, heads: int) -> int:
    """Bytes that a GPT layer saves in 16-bit training, without fused attention: 11 + 19 + 4 of s b h, and 5 of a s^2 b.

    Source: Korthikanti et al. 2022, section 4.1.
    """
    return batch * sequence * (34 * hidden + 5 * heads * sequence)


def korthikanti(plan) -> int:
    """Activations of all layers and the states of the ledger, added up."""
    a = architecture_of(plan.model)
    layer = korthikanti_layer(plan.batch, plan.sequence, a.hidden, a.heads)
    if plan.checkpointing:
        layer = 2 * plan.batch * plan.sequence * a.hidden  # the input of each block
    return a.layers * layer + LEDGERS[plan.ledger].with_adam * parameter_count(a)


def eleuther(plan) -> int:
    """Model + optimizer + gradients + activations, as the cook book of EleutherAI has them.

    Source: Anthony, Biderman, Schoelkopf 2023, "Transformer Math 101": mixed precision keeps weights in 16 bits, Adam
    and
    a master copy in 12 bytes, gradients in 4 (or 2); activations with no recomputation s b h L (10 + 24 / t + 5 a s /
    (h t)), with full recomputation 2 s b h L.
    """
    a = architecture_of(plan.model)
    states = (2 + 12 + 4) * parameter_count(a)
    tokens = plan.batch * plan.sequence
    if plan.checkpointing:
        return states + 2 * tokens * a.hidden * a.layers
    return states + int(tokens * a.hidden * a.layers * (10 + 24 + 5 * a.heads * plan.sequence / a.hidden))


def accelerate(plan) -> int:
    """FP32: four times the weights (weights, gradients, two states); mixed precision: twice their FP32 size. No
    activations.

    Source: accelerate's `estimate_training_usage`, the largest of its four figures.
    """
    whole = 4 * parameter_count(architecture_of(plan.model))
    return 4 * whole if plan.ledger == "fp32" else 2 * whole


def deepspeed(plan) -> int:
    """States under ZeRO-2 without offload: 4 bytes a parameter (it counts the 16-bit gradients as whole), and 16 shared
    by the ranks. No activations.

    Source: DeepSpeed's `estimate_zero2_model_states_mem_needs`.
    """
    parameters = parameter_count(architecture_of(plan.model))
    return 4 * parameters + 16 * parameters // plan.world_size


FORMULAS = {
    "Korthikanti et al., summed": korthikanti,
    "EleutherAI": eleuther,
    "accelerate": accelerate,
    "DeepSpeed": deepspeed,
}
