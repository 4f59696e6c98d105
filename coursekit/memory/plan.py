"""One way to train one model, as data: what the planner is asked about.

>>> Plan("llama-3-8b", quantization="nf4", lora_rank=16).sequence
2048
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """A way to train a model. Defaults are those of the field; `validate` rejects impossible plans.

    model               a preset, a config.json, a config, or an Architecture
    batch, sequence     of one micro-batch on one rank; sequence in tokens
    ledger              a name of ledger.LEDGERS: the precision of the trained weights, or of the base of adapters
    optimizer           a name of ledger.OPTIMIZERS
    implementation      "for-loop", "foreach" or "fused"; None: torch's choice for the device
    attention           "sdpa" or "eager"
    padded              some text is shorter than the batch: attention gets a mask, and shares no keys among queries
    checkpointing       recompute each block in backward
    accumulation        micro-batches per step
    lora_rank           0: all weights are trained; otherwise only adapters are
    lora_targets        "all-linear" or names of linear layers, as in PEFT
    lora_dropout        probability, on the input of the adapters
    quantization        None or "nf4": the base, without embedding, head and norms
    double_quantization the scales of NF4 are stored in 8 bits
    kbit_preparation    what is not quantised becomes FP32, as prepare_model_for_kbit_training does; None: if quantised
    zero_stage          0 to 3
    world_size          ranks, one per GPU
    offload             None, "optimizer" (stages 1 to 3) or "parameters" (stage 3): to the host's memory
    device              "cuda" or "cpu": decides the default of `implementation`, and what attention, dropout and
                        checkpointing allocate
    """

    model: object
    batch: int = 1
    sequence: int = 2048
    ledger: str = "bf16"
    optimizer: str = "adamw"
    implementation: str | None = None
    attention: str = "sdpa"
    padded: bool = False
    checkpointing: bool = False
    accumulation: int = 1
    lora_rank: int = 0
    lora_targets: str | tuple[str, ...] = "all-linear"
    lora_dropout: float = 0.0
    quantization: str | None = None
    double_quantization: bool = True
    kbit_preparation: bool | None = None
    zero_stage: int = 0
    world_size: int = 1
    offload: str | None = None
    device: str = "cuda"

    @property
    def prepared(self) -> bool:
        """Whether everything that is not in NF4 becomes FP32."""
        quantised = self.quantization is not None
        return quantised if self.kbit_preparation is None else self.kbit_preparation
