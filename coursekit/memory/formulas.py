"""What others estimate: the formulas that are often quoted, to be compared with the same step.

    korthikanti     activations of a GPT layer, s b h (34 + 5 a s / h) bytes, times the layers, plus the states
    eleuther        "Transformer Math 101": the same activations, or those of full recomputation, plus the states of
                    mixed precision
    accelerate      `accelerate estimate-memory`: a multiple of the weights
    deepspeed       `estimate_zero2_model_states_mem_needs`: states only

>>> korthikanti_layer(batch=1, sequence=1024, hidden=768, heads=12)
89653248

Each formula adds terms that are never in memory at once, or leaves some out. The lecture measures the difference.
"""

from __future__ import annotations

from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.ledger import LEDGERS
from coursekit.memory.plan import Plan


def korthikanti_layer(batch: int, sequence: int, hidden: int, heads: int) -> int:
    """Bytes that a GPT layer saves in 16-bit training without fused attention: 34 s b h (attention 11, MLP 19, norms 4)
    and 5 a s^2 b.

    Source: Korthikanti et al. 2022, section 4.1.
    """
    return batch * sequence * (34 * hidden + 5 * heads * sequence)


def korthikanti(plan: Plan) -> int:
    """Bytes of the activations of all layers and of the states of the ledger, added up."""
    a = architecture_of(plan.model)
    layer = korthikanti_layer(plan.batch, plan.sequence, a.hidden, a.heads)
    if plan.checkpointing:
        layer = 2 * plan.batch * plan.sequence * a.hidden  # the input of each block
    return a.layers * layer + LEDGERS[plan.ledger].with_adam * parameter_count(a)


def eleuther(plan: Plan) -> int:
    """Bytes of model, optimizer, gradients and activations, as EleutherAI's cookbook adds them up.

    Source: Anthony, Biderman, Schoelkopf 2023, "Transformer Math 101". Mixed precision keeps weights in 2 bytes, Adam
    and a master copy in 12, gradients in 4 (or 2). Activations without recomputation take s b h L (10 + 24 / t +
    5 a s / (h t)) bytes, with full recomputation 2 s b h L. Here t = 1.
    """
    a = architecture_of(plan.model)
    states = (2 + 12 + 4) * parameter_count(a)  # weights, Adam with the master copy, gradients
    tokens = plan.batch * plan.sequence
    if plan.checkpointing:
        return states + 2 * tokens * a.hidden * a.layers
    return states + int(tokens * a.hidden * a.layers * (10 + 24 + 5 * a.heads * plan.sequence / a.hidden))


def accelerate(plan: Plan) -> int:
    """Four times the FP32 weights in FP32 (weights, gradients, two states), twice in mixed precision; no activations.

    Source: accelerate's `estimate_training_usage`, the largest of its four figures.
    """
    whole = 4 * parameter_count(architecture_of(plan.model))
    return 4 * whole if plan.ledger == "fp32" else 2 * whole


def deepspeed(plan: Plan) -> int:
    """Bytes of the states under ZeRO-2 without offload: 4 per parameter (it counts the 16-bit gradients as undivided)
    and 16 that the ranks share; no activations.

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
