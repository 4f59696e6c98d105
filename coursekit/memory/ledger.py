"""Bytes per parameter: the named ledgers of training, and what each optimizer keeps.

"Sixteen bytes per parameter" can mean three different things. Here every ledger has a name, and its row says what it
counts:

    pure FP32 + Adam           weight 4 + gradient 4 + Adam 8                                = 16
    torch.amp                  the same: weights, gradients, Adam in FP32, operations cast   = 16 (and a copy of the
                               weights in 16 bits that lives only within a step)
    16-bit + FP32 master       weight 2 + gradient 2 + master 4 + Adam 8                     = 16 (ZeRO paper)
    ... with FP32 gradients    weight 2 + gradient 4 + master 4 + Adam 8                     = 18 (Megatron)
    ... with both gradients    weight 2 + gradients 2 + 4 + master 4 + Adam 8                = 20
    pure 16-bit + Adam         weight 2 + gradient 2 + Adam 4                                = 8  (updates get lost)

>>> LEDGERS["fp32"].with_adam, LEDGERS["master-18"].with_adam, LEDGERS["bf16"].with_adam
(16, 18, 8)
>>> OPTIMIZERS["adamw-8bit"].state_bytes((4096, 4096))       # two states of one byte, and an FP32 scale per 256 values
34078720

Sources: Rajbhandari et al. 2020 (ZeRO), section 3.1; Micikevicius et al. 2018 for master weights; Dettmers et al.
2022 for 8-bit states; Shazeer and Stern 2018 for factored ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

BLOCK = 256  # values that share an absmax in the 8-bit states
SMALL = 4096  # tensors with fewer elements keep states of 32 bits


@dataclass(frozen=True)
class Ledger:
    """Bytes per parameter. `gradient` is what accumulates, `gradient_copy` a second one that stays, `step_copy` one
    that lives during the optimizer's step only."""

    name: str
    title: str
    weight: int
    gradient: int
    master: int = 0
    gradient_copy: int = 0
    step_copy: int = 0
    state: int = 4  # of each of Adam's two
    autocast: int = 0  # of a product's operands under autocast; 0: no autocast

    @property
    def with_adam(self) -> int:
        """Bytes per parameter between two steps, with both states of Adam."""
        return self.weight + self.gradient + self.gradient_copy + self.master + 2 * self.state


LEDGERS = {
    ledger.name: ledger
    for ledger in (
        Ledger("fp32", "pure FP32 + Adam", 4, 4),
        Ledger("amp", "torch.amp", 4, 4, autocast=2),
        Ledger("master-16", "16-bit weights and gradients + FP32 master + Adam", 2, 2, master=4, step_copy=4),
        Ledger("master-18", "16-bit weights, FP32 gradients + FP32 master + Adam", 2, 4, master=4),
        Ledger(
            "master-20",
            "16-bit weights, both gradients + FP32 master + Adam",
            2,
            2,
            master=4,
            gradient_copy=4,
        ),
        Ledger("bf16", "pure 16-bit + Adam", 2, 2, state=2),
    )
}


@dataclass(frozen=True)
class Optimizer:
    """What an optimizer keeps for a weight.

    states     how many tensors of the weight's size
    bits       32: states in the ledger's precision; 8: blockwise in 8 bits
    factored   one row and one column in the place of a matrix
    paged      in the host's memory
    """

    name: str
    title: str
    states: int
    bits: int = 32
    factored: bool = False
    paged: bool = False

    def state_bytes(self, shape: tuple[int, ...], itemsize: int = 4) -> int:
        """Bytes that stay with one weight of that shape.

        itemsize   bytes per element of a state that is not in 8 bits
        """
        numel = prod(shape)
        # torch keeps the number of steps in a tensor.
        counter = 4 if self.name in ("adamw", "adafactor") else 0
        if self.factored:
            return 4 * factored_elements(shape) + counter
        if self.bits == 8 and numel >= SMALL:
            return self.states * (numel + 4 * ceil(numel / BLOCK))
        return self.states * numel * (4 if self.bits == 8 else itemsize) + counter

    def step_bytes(
        self, sizes: Iterable[int], implementation: str, itemsize: int = 4, total: int | None = None
    ) -> int:
        """The most bytes that are allocated at once during a step.

        sizes   elements of the weights, in order; of equal blocks that follow each other two are enough
        total   elements of all weights, if `sizes` leaves some out

        "for-loop" (torch's choice on a CPU) makes two results of the size of a weight before it frees that of the last
        weight; "foreach" (its choice on a GPU) makes one of the size of all weights; "fused" makes none.
        """
        sizes = list(sizes)
        if not sizes or self.bits == 8 or self.name.startswith("sgd"):
            return 0
        if self.factored:
            # one update per weight, while the variable still holds the update of the weight before
            return itemsize * max(before + now for before, now in zip([0, *sizes], sizes, strict=False))
        if implementation == "foreach":
            return (sum(sizes) if total is None else total) * itemsize
        if implementation == "fused":
            return 0
        return itemsize * max(before + 2 * now for before, now in zip([0, *sizes], sizes, strict=False))


OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", "SGD", 0),
        Optimizer("sgd-momentum", "SGD with momentum", 1),
        Optimizer("adamw", "AdamW", 2),
        Optimizer("adamw-8bit", "8-bit AdamW", 2, bits=8),
        Optimizer("paged-adamw", "paged AdamW", 2, paged=True),
        Optimizer("paged-adamw-8bit", "paged 8-bit AdamW", 2, bits=8, paged=True),
        Optimizer("adafactor", "Adafactor", 1, factored=True),
    )
}


def factored_elements(shape: tuple[int, ...]) -> int:
    """Elements of Adafactor's second moment: one row and one column instead of a matrix; a vector whole."""
    if len(shape) < 2:
        return prod(shape)
    return prod(shape[:-1]) + prod(shape[:-2]) * shape[-1]


def nf4_bytes(numel: int, *, blocksize: int = 64, double: bool = True) -> int:
    """Bytes of a weight in NF4: two codes per byte, and an absmax for each block.

    With double quantisation an absmax has 8 bits; 256 of them share one in FP32, and all of them a mean in FP32.
    Source: Dettmers et al. 2023 (QLoRA), section 3.
    """
    blocks = ceil(numel / blocksize)
    scales = blocks + 4 * ceil(blocks / 256) + 4 if double else 4 * blocks
    return ceil(numel / 2) + scales


def nf4_tables(double: bool = True) -> int:
    """Bytes of the FP32 look-up tables beside each weight: 16 values of NF4, and 256 values of the 8-bit scales."""
    return 4 * 16 + (4 * 256 if double else 0)
