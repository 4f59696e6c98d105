"""Memory explorer: choose a model and a way to train it, see what fills the card in each phase of a step.

The page (memory_explorer.js) does the interaction. It only multiplies, adds and compares: the coefficients come from
`memory_coefficients`, so that what is shown equals the planner to the byte, also without a kernel. Python
mirrors the state in traits, validates what is set from here, and draws the still picture.

    explorer = MemoryExplorer("llama-3-8b", "qlora", card="RTX 4090")
    explorer.estimate.peak_bytes    # follows every choice
    explorer.batch = 4              # and the page follows this

What a saved notebook holds: beside the live view, text/html with the fragment of `static` (alive in an HTML export or a
trusted notebook, a picture on GitHub) and text/plain with a table.
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
    """The page with its arithmetic in the place of the import: an anywidget is one module."""
    page = (HERE / "memory_explorer.js").read_text(encoding="utf-8")
    arithmetic = (HERE / "memory_sum.js").read_text(encoding="utf-8")
    module, replaced = SUM_IMPORT.subn(lambda line: arithmetic, page)
    assert replaced == 1, "memory_explorer.js must import memory_sum.js in exactly one line"
    return module


@cache
def table_of(models: tuple[str, ...]) -> dict:
    """The coefficients of these models for all methods and optimizers; a second, once.

    Raises UnknownModel, or ValueError for a model that not every choice of the page applies to.
    """
    for name in models:
        a = architecture_of(name)
        if a.experts or a.positions:
            why = (
                "experts, which QLoRA leaves as they are"
                if a.experts
                else "learned positions, too few for 8,192 tokens"
            )
            raise ValueError(
                f"{name} has {why}: the memory explorer shows dense models with rotary positions."
            )
    return memory_coefficients.table(
        models, {name: values for name, (_, values) in METHODS.items()}, CHOICES["optimizer"]
    )


def _titles() -> dict:
    """What the pickers say."""
    return {
        "method": {name: title for name, (title, _) in METHODS.items()},
        "optimizer": {name: OPTIMIZERS[name].title for name in CHOICES["optimizer"]},
        "attention": {"sdpa": "SDPA (flash)", "eager": "eager (scores kept)"},
    }


def spelled(card: str | float | Card) -> str:
    """A card as the page and `find_card` know it: its name, or its memory. Raises ValueError as `find_card`.

    >>> spelled("h100"), spelled(20)
    ('H100', '20 GB')
    """
    found = find_card(card)
    return found.name if found.name in cards() else f"{found.memory_gb:g} GB"


class MemoryExplorer(anywidget.AnyWidget):
    """The memory explorer.

    Traits, all in step with the page: `model` (one of `models`), `method`, `optimizer`, `batch`, `sequence`,
    `checkpointing`, `attention`, `zero_stage`, `gpus` (what each may be: `CHOICES`) and `card` (a name of `cards`, or
    GB). `plan` is the planner's plan of that state, `estimate` its bytes.

    Raises traitlets.TraitError for what is no choice, or for a plan that nobody could run; ValueError for models that
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
        with self.hold_trait_notifications():
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
        """What two choices make impossible together: 4-bit weights and stage 3."""
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
        """The choices in a line."""
        parts = [
            self.model,
            METHODS[self.method][0],
            OPTIMIZERS[self.optimizer].title,
            f"{self.batch} × {self.sequence:,} tokens",
            *(["eager attention"] if self.attention == "eager" else []),
            *(["checkpointing"] if self.checkpointing else []),
            *([f"ZeRO-{self.zero_stage} on {self.gpus} GPUs"] if self.zero_stage and self.gpus > 1 else []),
        ]
        return ", ".join(parts)

    def to_html(self) -> str:
        """The explorer in its present state as a fragment of HTML that needs no kernel (exports, slides)."""
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
