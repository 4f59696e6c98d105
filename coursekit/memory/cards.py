"""The cards people train on, as data: `cards.toml`, each with its source.

>>> find_card("rtx 4090").bytes, find_card("20 GB").name
(24000000000, 'a card of 20 GB')
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path

from coursekit.units import GB

MOST_GB = 10**9  # more than all cards together have


@dataclass(frozen=True)
class Card:
    """A card as its maker sells it."""

    name: str
    memory_gb: float  # GB of 10^9 bytes
    bandwidth: float = 0.0  # of its memory, GB/s
    tflops: float = 0.0  # dense 16-bit products, 10^12 FLOPs per second
    bf16: bool = True  # whether it multiplies BF16
    source: str = ""

    @property
    def bytes(self) -> int:
        return int(self.memory_gb * GB)


@cache
def cards() -> dict[str, Card]:
    """name -> card, smallest memory first."""
    rows = tomllib.loads((Path(__file__).parent / "cards.toml").read_text(encoding="utf-8"))["card"]
    return {row["name"]: Card(**row) for row in sorted(rows, key=itemgetter("memory_gb"))}


def find_card(card) -> Card:
    """The card of that name ("RTX 4090", "h100"), or any card of so many GB (24, "24").

    Raises ValueError with the nearest names, or if the memory is not a positive number.
    """
    if isinstance(card, Card):
        return card
    known = {name.lower(): value for name, value in cards().items()}
    text = str(card).lower().strip()
    if text in known:
        return known[text]
    try:
        memory = float(text.removesuffix("gb").strip())
    except ValueError:
        near = difflib.get_close_matches(text, known, n=3, cutoff=0.4) or list(known)
        names = ", ".join(known[name].name for name in near)
        raise ValueError(f"no card {card!r}; give its memory in GB, or one of: {names}.") from None
    if not 0 < memory <= MOST_GB:
        raise ValueError(
            f"the memory of a card is a positive number of GB, {MOST_GB:,} at most; got {card!r}."
        )
    return Card(f"a card of {memory:g} GB", memory)
