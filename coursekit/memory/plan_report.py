"""A plan's verdict to read or to pass on: tables for the terminal, plain data for programs. `coursekit plan` prints it.

What it leaves out: the arithmetic (`planner`) and the search for ways (`fit`). 1 GB is 10^9 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coursekit.memory.architecture import architecture_of, parameter_count, presets
from coursekit.memory.cards import cards
from coursekit.memory.fit import Fit, Way
from coursekit.memory.planner import CATEGORIES, PHASES, Estimate
from coursekit.units import gb

NARROW = 76  # columns that the table of the phases needs for its longest numbers
NO_WAY = (
    "None of the planner's changes makes it fit. Use a smaller model, shorter sequences or a larger card."
)
CLOSE = 0.05  # of the card's memory: CUDA's context and fragmentation may take that much


def as_dict(found: Estimate, verdicts: Sequence[Fit]) -> dict:
    """The estimate, and the verdict of each card with its ways, as plain data for JSON; sizes in bytes."""
    return found.to_dict() | {"cards": [_verdict(fit) for fit in verdicts]}


def _verdict(fit: Fit) -> dict:
    return {
        "card": fit.card.name,
        "card_bytes": fit.card.bytes,
        "fits": fit.fits,
        "spare_bytes": fit.spare_bytes,
        "breaks": fit.breaks,
        "ways": [_way(way) for way in fit.ways],
    }


def _way(way: Way) -> dict:
    return {
        "changes": [change.name for change in way.changes],
        "costs": [change.cost for change in way.changes],
        "peak_bytes": way.estimate.peak_bytes,
        "flops_factor": way.flops_factor,
        "sent_bytes": way.sent_bytes,
        "host_bytes": way.host_bytes,
        "same_training": way.same_training,
    }


def parts(found: Estimate, verdicts: Sequence[Fit], width: int = 80) -> Iterator[str]:
    """The paragraphs for a terminal of `width` columns, in order."""
    yield heading(found)
    yield phase_table(found) if width >= NARROW else phase_lists(found)
    yield "\n".join([peak_line(found), *(f"note: {note}" for note in found.notes)])
    for fit in verdicts:
        yield verdict_line(fit)
        if not fit.fits:
            yield from ways_lines(fit)


def heading(found: Estimate) -> str:
    """The plan in two lines."""
    plan, share = found.plan, 100 * found.trainable / found.parameters
    parts = [f"LoRA r={plan.lora_rank}" if plan.lora_rank else "all weights trained"]
    if plan.quantization:
        parts.append("base in NF4")
    parts += [f"ledger {plan.ledger}", plan.optimizer]
    parts += [f"batch {plan.batch} x {plan.sequence:,} tokens", f"{plan.attention} attention"]
    if plan.checkpointing:
        parts.append("checkpointing")
    if plan.accumulation > 1:
        parts.append(f"accumulation {plan.accumulation}")
    if plan.world_size > 1:
        parts.append(f"ZeRO-{plan.zero_stage} on {plan.world_size} GPUs")
    if plan.offload:
        parts.append(f"offload of {plan.offload}")
    counts = f"{found.parameters:,} parameters, {found.trainable:,} trained ({share:.3g} %)"
    return f"{found.to_dict()['plan']['model']}: {counts}\n{', '.join(parts)}"


def phase_table(found: Estimate) -> str:
    """Rows: categories with any bytes, and their sum; columns: phases."""
    rows = [["", *PHASES]]
    for name in CATEGORIES:
        values = [found.phases[phase][name] for phase in PHASES]
        if any(values):  # most plans have no master weights and gather nothing
            rows.append([name, *map(gb, values)])
    rows.append(["sum", *(gb(found.peaks[phase]) for phase in PHASES)])
    return f"\nMemory at the highest point of each phase, GB (1 GB = 10^9 bytes)\n\n{aligned(rows, ruled=(1, -1))}\n"


def aligned(rows: Sequence[Sequence[str]], ruled: tuple[int, ...] = (1,)) -> str:
    """Rows as lines, the first column aligned left, the others right; a rule before the rows `ruled`.

    >>> print(aligned([["card", "GB"], ["T4", "16"]]))
      card  GB
     ──────────
      T4    16
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *values in rows:
        cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        lines.append("  " + "  ".join([name.ljust(widths[0]), *cells]))
    rule = " " + "─" * (sum(widths) + 2 * (len(widths) - 1) + 2)
    # From below, so that the other places stay valid.
    for place in sorted((number % len(rows) for number in ruled), reverse=True):
        lines.insert(place, rule)
    return "\n".join(lines)


def phase_lists(found: Estimate) -> str:
    """The same as lines, for a terminal where a table would have to cut its numbers."""
    lines = ["Memory at the highest point of each phase, GB (1 GB = 10^9 bytes)"]
    for phase, terms in found.phases.items():
        lines += [f"{phase}: {gb(found.peaks[phase])}"]
        lines += [f"  {name}: {gb(nbytes)}" for name, nbytes in terms.items() if nbytes]
    return "\n".join(lines)


def known() -> Iterator[str]:
    """The presets with their parameters, and the cards with their memory."""
    models = [["preset", "family", "parameters"]]
    for name in presets():
        architecture = architecture_of(name)
        models.append([name, architecture.family, f"{parameter_count(architecture) / 1e6:,.0f}"])
    yield "Models, millions of parameters\n\n" + aligned(models)
    sold = [[card.name, f"{card.memory_gb:g}"] for card in cards().values()]
    yield "Cards (1 GB = 10^9 bytes)\n\n" + aligned([["card", "GB"], *sold])


def peak_line(found: Estimate) -> str:
    host = f"; {gb(found.host_bytes)} GB in the host's memory" if found.host_bytes else ""
    return f"peak {gb(found.peak_bytes)} GB, {found.peak_phase}{host}"


def verdict_line(fit: Fit) -> str:
    """Whether the plan fits, by how much, and what breaks it."""
    where, spare = f"{fit.card.name} ({gb(fit.card.bytes)} GB)", fit.spare_bytes
    if not fit.fits:
        return f"{where}: does not fit, {gb(-spare)} GB too much; what breaks it: {fit.breaks}"
    close = ""
    if spare < CLOSE * fit.card.bytes:
        close = " (close: CUDA itself takes 0.3 to 0.5 GB)"
    return f"{where}: fits, {gb(spare)} GB to spare{close}"


def ways_lines(fit: Fit) -> Iterator[str]:
    """The changes that make it fit, cheapest first, with the cost of each way."""
    yield "Ways to make it fit, cheapest first:" if fit.ways else NO_WAY
    for number, way in enumerate(fit.ways, 1):
        costs = "; ".join(dict.fromkeys(change.cost for change in way.changes))  # each once, in order
        counted = [f"peak {gb(way.estimate.peak_bytes)} GB", f"FLOPs x {way.flops_factor:.2f}"]
        if way.sent_bytes:
            counted.append(f"{gb(way.sent_bytes)} GB sent by each GPU per step")
        if way.host_bytes:
            counted.append(f"{gb(way.host_bytes)} GB to and from the host per step")
        yield f"  {number}. {way.name}\n     {', '.join(counted)}\n     price: {costs}"
