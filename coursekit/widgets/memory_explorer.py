"""Memory explorer: choose a model and a way to train it, and see what fills the card in each phase of a step.

The page (memory_explorer.js) does the interaction. It only multiplies, adds and compares: the coefficients come from
`memory_coefficients`, so that the page shows the planner's bytes, also without a kernel. Python mirrors the state in
traits, validates what is set here, and draws the still picture.

>>> explorer = MemoryExplorer("tiny", "fp32", models=("tiny",), card="RTX 4090")
>>> explorer.batch = 4                                    # the page follows
>>> explorer.estimate.peak_bytes == estimate(explorer.plan).peak_bytes
True

A saved notebook holds, beside the live view, text/html with the fragment of `static` (it works in an HTML export or a
trusted notebook, and is a picture on GitHub) and text/plain with a table.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import anywidget
import traitlets

from coursekit.memory.architecture import architecture_of
from coursekit.memory.cards import Card, cards, find_card
from coursekit.memory.ledger import OPTIMIZERS
from coursekit.memory.planner import Estimate, Plan, estimate
from coursekit.memory.validate import reject_impossible
from coursekit.widgets import memory_coefficients, memory_picture
from coursekit.widgets.static import fragment

HERE = Path(__file__).parent
SUM_IMPORT = re.compile(r'^import \{.*\} from "\./memory_sum\.js";$', re.MULTILINE)
MODELS = ("tiny", "smollm2-135m", "course-100m", "phi-3-mini", "llama-3-8b", "llama-3-70b")
# name: (title, values of Plan)
METHODS = {
    "fp32": ("all weights, FP32", {"ledger": "fp32"}),
    "amp": ("all weights, torch.amp", {"ledger": "amp"}),
    "master-16": ("all weights, 16-bit + FP32 master", {"ledger": "master-16"}),
    "bf16": ("all weights, pure 16-bit", {"ledger": "bf16"}),
    "lora": ("LoRA r=16", {"ledger": "bf16", "lora_rank": 16}),
    "qlora": ("QLoRA r=16", {"ledger": "bf16", "lora_rank": 16, "quantization": "nf4"}),
}
CHOICES = {
    "method": tuple(METHODS),
    "optimizer": ("adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor", "sgd"),
    "batch": memory_coefficients.BATCHES,
    "sequence": memory_coefficients.SEQUENCES,
    "attention": ("sdpa", "eager"),
    "zero_stage": (0, 1, 2, 3),
    "gpus": (1, 2, 4, 8, 16, 32, 64),
}
STATE = (
    "model",
    "method",
    "optimizer",
    "batch",
    "sequence",
    "checkpointing",
    "attention",
    "zero_stage",
    "gpus",
    "card",
)


def _module() -> str:
    """The page's module, with the arithmetic in the place of its import: an anywidget is one module."""
    page = (HERE / "memory_explorer.js").read_text(encoding="utf-8")
    arithmetic = (HERE / "memory_sum.js").read_text(encoding="utf-8")
    # A function, since in a plain string `subn` would interpret backslashes.
    module, replaced = SUM_IMPORT.subn(lambda line: arithmetic, page)
    assert replaced == 1, "memory_explorer.js must import memory_sum.js in exactly one line"
    return module


@cache
def table_of(models: tuple[str, ...]) -> dict:
    """The coefficients of these models for all methods and optimizers; takes a second, once.

    Raises UnknownModel, or ValueError for a model to which not every choice of the page applies.
    """
    for name in models:
        a = architecture_of(name)
        why = ""
        if a.experts:
            why = "experts, which QLoRA does not quantise"
        elif a.positions:
            why = "learned positions, too few for 8,192 tokens"
        if why:
            raise ValueError(
                f"{name} has {why}: the memory explorer shows dense models with rotary positions."
            )
    methods = {name: values for name, (_, values) in METHODS.items()}
    return memory_coefficients.table(models, methods, CHOICES["optimizer"])


def _titles() -> dict:
    """The texts of the pickers, by trait and value."""
    return {
        "method": {name: title for name, (title, _) in METHODS.items()},
        "optimizer": {name: OPTIMIZERS[name].title for name in CHOICES["optimizer"]},
        "attention": {"sdpa": "SDPA (flash)", "eager": "eager (scores kept)"},
    }


def spelled(card: str | float | Card) -> str:
    """A card as the page and `find_card` write it: its name, or its memory. Raises ValueError as `find_card`.

    >>> spelled("h100"), spelled(20)
    ('H100', '20 GB')
    """
    found = find_card(card)
    return found.name if found.name in cards() else f"{found.memory_gb:g} GB"


class MemoryExplorer(anywidget.AnyWidget):
    """The memory explorer.

    Traits, all synchronised with the page: `model` (one of `models`), `method`, `optimizer`, `batch`, `sequence`,
    `checkpointing`, `attention`, `zero_stage`, `gpus` (what each may be: `CHOICES`) and `card` (a name of `cards`, or
    GB). `plan` is the planner's plan of that state, `estimate` its bytes.

    Raises traitlets.TraitError for a value that is not a choice, and for an impossible plan; ValueError for models that
    the page cannot show.
    """

    _esm = _module()
    _css = (HERE / "memory_explorer.css").read_text(encoding="utf-8")

    model = traitlets.Unicode().tag(sync=True)
    method = traitlets.Unicode("qlora").tag(sync=True)
    optimizer = traitlets.Unicode("adamw").tag(sync=True)
    batch = traitlets.Int(1).tag(sync=True)
    sequence = traitlets.Int(2048).tag(sync=True)
    checkpointing = traitlets.Bool(False).tag(sync=True)
    attention = traitlets.Unicode("sdpa").tag(sync=True)
    zero_stage = traitlets.Int(0).tag(sync=True)
    gpus = traitlets.Int(1).tag(sync=True)
    card = traitlets.Unicode("RTX 4090").tag(sync=True)
    facts = traitlets.Dict(read_only=True).tag(sync=True)

    def __init__(
        self, model: str = "llama-3-8b", method: str = "qlora", *, models: tuple[str, ...] = MODELS, **state
    ):
        names = tuple(dict.fromkeys((*models, model)))
        table = table_of(names)
        own = {name: state.pop(name) for name in STATE if name in state}
        super().__init__(**state)
        own["card"] = spelled(own.get("card", "RTX 4090"))
        capacities = [[name, card.bytes] for name, card in cards().items()]
        facts = {
            "table": table,
            "titles": _titles(),
            "choices": CHOICES | {"model": names},
            "cards": capacities,
        }
        self.set_trait("facts", facts)
        with self.hold_trait_notifications():  # checked together, when all are set
            for name, value in {"model": model, "method": method, **own}.items():
                setattr(self, name, value)

    @property
    def plan(self) -> Plan:
        return Plan(
            self.model, batch=self.batch, sequence=self.sequence, optimizer=self.optimizer, attention=self.attention,
            checkpointing=self.checkpointing, zero_stage=self.zero_stage, world_size=self.gpus,
            **METHODS[self.method][1],
        )  # fmt: skip

    @property
    def estimate(self) -> Estimate:
        return estimate(self.plan)

    @traitlets.validate(
        "model", "method", "optimizer", "batch", "sequence", "attention", "zero_stage", "gpus"
    )
    def _check_choice(self, proposal: dict):
        name, value = proposal["trait"].name, proposal["value"]
        allowed = self.facts["choices"][name]
        if value not in allowed:
            listed = f"{allowed[0]} to {allowed[-1]}" if name == "batch" else ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name} must be one of {listed}; got {value!r}.")
        if name in ("method", "zero_stage"):
            self._check_plan(name, value)
        return value

    def _check_plan(self, name: str, value) -> None:
        """Reject two choices that are impossible together: 4-bit weights and stage 3."""
        chosen = {"method": self.method, "zero_stage": self.zero_stage, name: value}
        plan = Plan(self.model, zero_stage=chosen["zero_stage"], **METHODS[chosen["method"]][1])
        try:
            reject_impossible(plan, architecture_of(self.model))
        except ValueError as impossible:
            raise traitlets.TraitError(str(impossible)) from None

    @traitlets.validate("card")
    def _check_card(self, proposal: dict) -> str:
        try:
            return spelled(proposal["value"])
        except ValueError as unknown:
            raise traitlets.TraitError(str(unknown)) from None

    def title(self) -> str:
        """The choices in one line."""
        parts = [self.model, METHODS[self.method][0], OPTIMIZERS[self.optimizer].title]
        parts.append(f"{self.batch} × {self.sequence:,} tokens")
        if self.attention == "eager":
            parts.append("eager attention")
        if self.checkpointing:
            parts.append("checkpointing")
        if self.zero_stage and self.gpus > 1:
            parts.append(f"ZeRO-{self.zero_stage} on {self.gpus} GPUs")
        return ", ".join(parts)

    def to_html(self) -> str:
        """The explorer in its current state as a fragment of HTML that needs no kernel (exports, slides)."""
        state = {name: getattr(self, name) for name in (*STATE, "facts")}
        still = (self.title(), self.estimate, find_card(self.card))
        caption = (
            "Memory explorer. Run this cell, or open the notebook as HTML, and everything can be chosen."
        )
        alt = memory_picture.describe(*still)
        return fragment(self._esm, self._css, state, memory_picture.svg(*still), alt, caption)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        text = memory_picture.lines(self.title(), self.estimate, find_card(self.card))
        return {**data, "text/plain": text, "text/html": self.to_html()}, metadata
