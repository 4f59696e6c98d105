"""The `coursekit` command of a bare Python: `coursekit plan`, the memory of a training step.

The other commands (`doctor`, `run`, `check`, ...) belong to the classroom, which the extra `lab` makes usable. It
announces them by the entry point `coursekit.commands`, so that nothing here has to import it.

Exit status of `plan`: 0 it fits, or no card was named; 1 it does not fit one of the cards; 2 the plan is impossible, or
an option is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distributions

BARE_HELP = """\
coursekit plan MODEL [options]    the memory of a training step; --help lists the options
The other commands (doctor, run, check, ...) come with:  python -m pip install "coursekit[lab]"
"""
OTHERS = """\
coursekit {verb}: {missing} is not installed, and this command of the classroom needs it. `coursekit plan` does not.
Install what the notebooks need:  python -m pip install "coursekit[lab]"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of the classroom if its packages are installed, else `plan` alone."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command, missing = classroom_command()
    if command:
        command(arguments)
    elif not arguments or arguments[0] in ("-h", "--help"):
        print(BARE_HELP)
    elif arguments[0] == "plan":
        if hasattr(sys.stdout, "reconfigure"):  # the encoding may lack the rules of a table (Windows, a file)
            sys.stdout.reconfigure(errors="replace")
        sys.exit(run_plan(arguments[1:]))
    else:
        print(OTHERS.format(verb=arguments[0], missing=missing or "the classroom"), file=sys.stderr)
        sys.exit(2)


def classroom_command() -> tuple[Callable | None, str]:
    """The command with all verbs, and ""; or None and the name of the missing package."""
    missing = ""
    # not entry_points(): an *.egg-info of an older clone would hide the installed package of the same name
    entries = [entry for found in distributions(name="coursekit") for entry in found.entry_points]
    for entry in entries:
        if entry.group == "coursekit.commands":
            try:
                return entry.load(), ""
            except ModuleNotFoundError as error:
                missing = error.name or entry.value
    return None, missing


# ---------------------------------------------------------------- plan


def run_plan(arguments: Sequence[str]) -> int:
    """Run `coursekit plan ARGUMENTS`; return its exit status. Raises SystemExit (2) for unknown arguments."""
    parser = argparse.ArgumentParser("coursekit plan", description=DESCRIPTION, allow_abbrev=False)
    add_plan_arguments(parser)
    return plan(parser.parse_args(list(arguments)))


DESCRIPTION = """\
Will it fit? The memory of a training step of MODEL: a preset (llama-3-8b), a config.json or its folder. All presets
and cards: --list. Status 0: it fits (or no card was named); 1: it does not fit one of the cards; 2: the plan is
impossible, or an option is wrong."""


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of `Plan`, with the default that it has there."""
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?")
    add("--list", action="store_true", help="Show the presets and the cards, and exit.")
    add("--gpu", dest="cards", action="append", default=[], metavar="CARD",
        help='The card: GB or a name (24, "RTX 4090"); may be given several times.')  # fmt: skip
    add("--json", dest="as_json", action="store_true", help="Print plain JSON, sizes in bytes.")
    add("--batch", type=int, default=1, help="Sequences per micro-batch  [default: 1]")
    add("--seq", dest="sequence", type=int, default=2048, help="Tokens per sequence  [default: 2048]")
    add("--ledger", default="bf16", metavar="NAME",
        help="Bytes per parameter: fp32, amp, master-16, master-18, master-20, bf16  [default: bf16]")  # fmt: skip
    add("--optimizer", default="adamw", metavar="NAME", help="sgd, sgd-momentum, adamw, adamw-8bit, "
        "paged-adamw, paged-adamw-8bit, adafactor  [default: adamw]")  # fmt: skip
    add("--implementation", metavar="NAME", help="Of the optimizer: for-loop, foreach or fused.")
    add("--attention", default="sdpa", metavar="NAME", help="sdpa or eager  [default: sdpa]")
    add("--padded", action="store_true", help="Batches have padding, so attention needs a mask.")
    add("--checkpointing", action="store_true", help="Recompute each block in backward.")
    add("--accumulation", type=int, default=1, help="Micro-batches per step  [default: 1]")
    add("--lora", dest="lora_rank", type=at_least_1, metavar="RANK", help="Train adapters of this rank only.")
    add("--qlora", action="store_true", help="Train adapters on a base in NF4.")
    add("--rank", type=at_least_1, metavar="RANK", help="Rank of --qlora  [default: 16]")
    add("--targets", metavar="NAMES", help="Adapted layers: q_proj,v_proj  [default: all linear]")
    add("--lora-dropout", type=float, metavar="SHARE", help="Dropout of the adapters' input  [default: 0]")
    add("--no-double-quantization", action="store_true", help="Keep the scales of NF4 in FP32.")
    add("--no-kbit-preparation", action="store_true", help="Keep what is not in NF4 in 16 bits.")
    add("--zero", dest="zero_stage", type=int, default=0, metavar="STAGE", help="0 to 3  [default: 0]")
    add("--gpus", dest="world_size", type=int, default=1, help="Ranks, one per GPU  [default: 1]")
    add("--offload", metavar="WHAT", help="To the host's memory: optimizer or parameters.")
    add("--device", default="cuda", help="cuda or cpu  [default: cuda]")


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1.")
    return int(text)


def plan(wanted: argparse.Namespace) -> int:
    """Print what the arguments of `add_plan_arguments` ask for; returns the exit status."""
    if wanted.list:
        from coursekit.memory.plan_report import known

        print("\n\n".join(known()))
        return 0
    if wanted.model is None:
        return refused(
            "name a MODEL: a preset (llama-3-8b), a config.json or its folder. All presets: --list."
        )
    from coursekit.memory.fit import fits  # here, so that other commands start without the planner
    from coursekit.memory.planner import estimate

    try:
        asked = make_plan(wanted)
        found = estimate(asked)
        verdicts = [fits(asked, card) for card in wanted.cards]
    except ValueError as error:
        return refused(str(error))
    print("\n".join(lines(found, verdicts, wanted.as_json)))
    return 0 if all(fit.fits for fit in verdicts) else 1


def refused(words: str) -> int:
    print(f"Error: {words}", file=sys.stderr)
    return 2


def lines(found, verdicts, as_json: bool) -> Iterator[str]:
    from coursekit.memory import plan_report

    if as_json:
        yield json.dumps(plan_report.as_dict(found, verdicts), indent=2)
    else:
        yield from plan_report.parts(found, verdicts, shutil.get_terminal_size().columns)


def make_plan(wanted: argparse.Namespace):
    """The Plan of these options. Raises ValueError for an option that would have no effect."""
    from coursekit.memory.planner import Plan

    options = dict(vars(wanted))  # what is not taken out below has the name of a field
    for name in ("list", "cards", "as_json"):
        del options[name]
    qlora, rank, lora_rank = options.pop("qlora"), options.pop("rank"), options.pop("lora_rank")
    targets, dropout = options.pop("targets"), options.pop("lora_dropout")
    flat_scales, unprepared = options.pop("no_double_quantization"), options.pop("no_kbit_preparation")

    check_ranks(lora_rank, qlora, rank)
    of_qlora = {"--no-double-quantization": flat_scales, "--no-kbit-preparation": unprepared}
    of_adapters = {"--targets": targets is not None, "--lora-dropout": dropout is not None}
    check_given(of_qlora, qlora, "--qlora", "no weight is in NF4")
    check_given(of_adapters, qlora or lora_rank is not None, "--lora or --qlora", "there are no adapters")
    if qlora and lora_rank is None:
        lora_rank = rank or 16
    return Plan(
        lora_rank=lora_rank or 0,
        lora_targets="all-linear" if targets is None else target_names(targets),
        lora_dropout=dropout or 0.0,
        quantization="nf4" if qlora else None,
        double_quantization=not flat_scales,
        kbit_preparation=False if unprepared else None,
        **options,
    )


def check_ranks(lora_rank: int | None, qlora: bool, rank: int | None) -> None:
    """Raise ValueError if --rank would have no effect: without --qlora, or beside the rank of --lora."""
    if rank is not None and not qlora:
        raise ValueError(f"--rank belongs to --qlora; use --lora {rank}.")
    if rank is not None and lora_rank is not None:
        raise ValueError(
            f"--lora {lora_rank} and --rank {rank} both say the rank of the adapters; leave one out."
        )


def check_given(options: dict[str, bool], known: bool, owner: str, why: str) -> None:
    """Raise ValueError for the first option that is given although nothing uses it."""
    for name, given in options.items():
        if given and not known:
            raise ValueError(f"{name} belongs to {owner}; without it {why}, and the option has no effect.")


def target_names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list. Raises ValueError if it has none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("--targets names no layer; write for example --targets q_proj,v_proj.")
    return names


if __name__ == "__main__":
    main()
