"""The `coursekit` command. What a command needs is imported when it runs, so that `--help` answers at once.

Exit status: 0 all is well; 1 the answer is no (a notebook failed, a file is stale, an exercise is not passed, a plan
does not fit); 2 something the user can put right, told in a sentence; 70 an error that nobody foresaw; 130 stopped
with Ctrl-C; 143 stopped with SIGTERM (`publish.endings`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from coursekit.publish.endings import Amount, Course, Problem, statuses_text

GB = 10**9


def limits_options(command):
    """The options that hold a notebook to what it may take."""
    options = [
        click.option("--ram-limit", type=Amount(min=0.1), default=4.0, show_default=True,
                     metavar="GB", help="Memory for a notebook and all it starts (1 GB = 10^9 bytes)."),
        click.option("--cell-timeout", type=Amount(min=1), default=300, show_default=True,
                     metavar="SECONDS", help="Time for one cell."),
        click.option("--timeout", type=Amount(min=1), default=1200, show_default=True,
                     metavar="SECONDS", help="Time for one notebook."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def make_limits(ram_limit: float, cell_timeout: float, timeout: float):
    from coursekit.publish.kernel import Limits

    return Limits(ram_bytes=ram_limit * GB, cell_seconds=cell_timeout, seconds=timeout)


def make_console(as_json: bool = False):
    """Where a command talks to people: beside the JSON, if that is asked for."""
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty(), stderr=as_json)


def json_option(command):
    return click.option("--json", "as_json", is_flag=True, help="Print plain JSON, sizes in bytes.")(command)


def print_json(data) -> None:
    click.echo(json.dumps(data, indent=2))


@click.group(
    cls=Course,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExit status:\n{statuses_text()}",
)
@click.version_option(package_name="coursekit")
def main():
    """The course on efficient training of language models: its notebooks, exercises and slides."""


@main.command()
@json_option
def doctor(as_json):
    """What this machine can do, and what each missing piece disables."""
    from coursekit.classroom.doctor import as_dict, doctor

    report = doctor()
    if as_json:
        print_json(as_dict(report))
    else:
        click.echo(str(report))
    sys.exit(0 if report.ready else 1)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--profile",
    type=click.Choice(["ci", "cpu", "gpu"]),
    default="ci",
    show_default=True,
    help="Sizes for a quick check, for a laptop, for a GPU.",
)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the notebooks that have it; may be given several times.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for copies and pages  [default: build]")
@limits_options
@json_option
def run(names, profile, parameters, out, ram_limit, cell_timeout, timeout, as_json):  # fmt: skip
    """Run notebooks headless: all, or those NAMED (01_formats, formats, 1, solutions/01_formats)."""
    from coursekit.publish.parameters import parse_value
    from coursekit.publish.report import as_dict, failure_panel, table
    from coursekit.publish.runner import run_all
    from coursekit.publish.sources import all_sources, find_root, pick

    root, console = find_root(), make_console(as_json)
    out = out or root / "build"
    values = {name: parse_value(text) for name, text in parameters}
    limits = make_limits(ram_limit, cell_timeout, timeout)
    runs = run_all(
        pick(all_sources(root), names), console, profile=profile, parameters=values, limits=limits, out=out
    )
    console.print(table(runs))
    for failed in (run for run in runs if not run.ok):
        console.print(failure_panel(failed))
    console.print(f"Executed copies and pages: {out}", markup=False, highlight=False)
    if as_json:
        print_json(
            {"ok": all(run.ok for run in runs), "out": str(out), "runs": [as_dict(run) for run in runs]}
        )
    sys.exit(0 if all(run.ok for run in runs) else 1)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--check", "check_only", is_flag=True, help="Write nothing; say which committed files are stale."
)
@click.option("--force", is_flag=True, help="Build also what is up to date.")
@limits_options
@json_option
def build(names, check_only, force, ram_limit, cell_timeout, timeout, as_json):
    """Text sources -> executed canonical notebooks, exercises, decks: all, or those NAMED."""
    from coursekit.publish import builder
    from coursekit.publish.report import failure_panel
    from coursekit.publish.sources import all_sources, find_root, pick

    if as_json and not check_only:
        raise click.UsageError("--json belongs to --check: it tells what is stale.")
    root, console = find_root(), make_console(as_json)
    sources, limits = pick(all_sources(root), names), make_limits(ram_limit, cell_timeout, timeout)
    if check_only:
        stale = builder.check_notebooks(sources, console, limits=limits)
        rest = builder.check_rest(root, console)
        if stale or rest:
            console.print(f"Put it right:  coursekit build {' '.join(names)}", markup=False)
        if as_json:
            print_json({"ok": not (stale or rest), "stale": stale, "rest": rest})
        sys.exit(1 if stale or rest else 0)
    failed = [
        run for run in builder.build_notebooks(sources, console, force=force, limits=limits) if not run.ok
    ]
    for run in failed:
        console.print(failure_panel(run))
    builder.write_exercises(root, console)
    builder.build_decks(names, console)
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("notebooks", nargs=-1, required=True, type=click.Path(path_type=Path))
@limits_options
@json_option
def check(notebooks, ram_limit, cell_timeout, timeout, as_json):
    """Run exercise NOTEBOOKS and tell what their checks say (exercises/01_formats.ipynb).

    This is a self-check. It runs the notebook's own code as you, with your rights: the limits are for accidents, they
    do not lock anything in. For other people's work use a container:

    \b
      docker run --rm --network none --memory 4g --pids-limit 200 \\
        -v "$PWD/handed-in:/in:ro" IMAGE coursekit check /in/01_formats.ipynb

    The verdicts are what the notebook shows, so whoever writes it can forge them. Marks come from the hidden tests in
    solutions/, which a teacher runs with nbgrader, in a fresh kernel, on a machine of their own.
    """
    from coursekit.publish.report import Board
    from coursekit.publish.verdicts import as_dict, check_notebook, require_file, show

    for path in notebooks:
        require_file(path)
    console, limits = make_console(as_json), make_limits(ram_limit, cell_timeout, timeout)
    found = {}
    for path in notebooks:
        with Board(console, [path.name]) as board:
            board.start(path.name)
            found[path] = check_notebook(path, limits=limits, progress=board.step)
        if not as_json:
            show(found[path], console)
    well = all(checked.ok for checked in found.values())
    if as_json:
        print_json({"ok": well, "notebooks": [as_dict(checked, path) for path, checked in found.items()]})
    sys.exit(0 if well else 1)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--html", "formats", flag_value="html", multiple=True, help="One file with notes and timer (the default)."
)
@click.option("--pdf", "formats", flag_value="pdf", multiple=True, help="PDF.")
@click.option("--pptx", "formats", flag_value="pptx", multiple=True, help="PowerPoint.")
@click.option("--md", "formats", flag_value="md", multiple=True, help="The executed Markdown; needs no Node.")
@click.option("--handout", "formats", flag_value="handout", multiple=True, help="Slide and notes on A4.")
@click.option("--student", is_flag=True, help="Leave the teacher's notes out.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to  [default: slides/build]")
def slides(names, formats, student, out):
    """Build decks: all, or those NAMED (01_formats)."""
    from coursekit.publish.slides import build

    for path in build(names, formats or ("html",), out, student):
        click.echo(path)


@main.command()
@json_option
def claims(as_json):
    """Compute every claim of the register and write its page."""
    from coursekit.publish import claims
    from coursekit.publish.sources import find_root

    root = find_root()
    register = claims.load(root / "claims")
    wrong = [sentence for rows in register.values() for row in rows for sentence in claims.mismatches(row)]
    for sentence in wrong:
        click.echo(sentence, err=True)
    pages = claims.write(root)
    if as_json:
        counts = {word: len(rows) for word, rows in register.items()}
        print_json(
            {"ok": not wrong, "claims": counts, "wrong": wrong, "pages": [str(path) for path in pages]}
        )
    else:
        click.echo("\n".join(map(str, pages)))
    sys.exit(1 if wrong else 0)


PLAN_OPTIONS = (
    click.option("--batch", type=int, default=1, show_default=True, help="Sequences of a micro-batch."),
    click.option("--seq", "sequence", type=int, default=2048, show_default=True, help="Tokens of a sequence."),
    click.option("--ledger", default="bf16", show_default=True, metavar="NAME",
                 help="Bytes of a parameter: fp32, amp, master-16, master-18, master-20, bf16."),
    click.option("--optimizer", default="adamw", show_default=True, metavar="NAME",
                 help="sgd, sgd-momentum, adamw, adamw-8bit, paged-adamw, paged-adamw-8bit, adafactor."),
    click.option("--implementation", metavar="NAME", help="Of the optimizer: for-loop, foreach or fused."),
    click.option("--attention", default="sdpa", show_default=True, metavar="NAME", help="sdpa or eager."),
    click.option("--padded", is_flag=True, help="Batches have padding, so attention needs a mask."),
    click.option("--checkpointing", is_flag=True, help="Recompute each block in backward."),
    click.option("--accumulation", type=int, default=1, show_default=True, help="Micro-batches of a step."),
    click.option("--lora", "lora_rank", type=click.IntRange(min=1), metavar="RANK",
                 help="Train adapters of this rank only."),
    click.option("--qlora", is_flag=True, help="Adapters on a base in NF4; --rank 16 unless told."),
    click.option("--rank", type=click.IntRange(min=1), metavar="RANK", help="Rank of --qlora  [default: 16]"),
    click.option("--targets", metavar="NAMES", help="Adapted layers: q_proj,v_proj  [default: all linear]"),
    click.option("--lora-dropout", type=float, metavar="SHARE", help="Of the adapters' input  [default: 0]"),
    click.option("--no-double-quantisation", is_flag=True, help="Keep the scales of NF4 in FP32."),
    click.option("--no-kbit-preparation", is_flag=True, help="Leave what NF4 does not hold in 16 bits."),
    click.option("--zero", "zero_stage", type=int, default=0, show_default=True, metavar="STAGE", help="0 to 3."),
    click.option("--gpus", "world_size", type=int, default=1, show_default=True, help="Ranks, one a GPU."),
    click.option("--offload", metavar="WHAT", help="To the host's memory: optimizer or parameters."),
    click.option("--device", default="cuda", show_default=True, help="cuda or cpu."),
)  # fmt: skip


def plan_options(command):
    """One option for each field of `Plan`."""
    for option in reversed(PLAN_OPTIONS):
        command = option(command)
    return command


def make_plan(
    model, *, lora_rank, qlora, rank, targets, lora_dropout, no_double_quantisation, no_kbit_preparation, **fields
):  # fmt: skip
    """The Plan that the options say. Raises ValueError for an option that would have no effect."""
    from coursekit.memory.planner import Plan

    of_qlora = {
        "--no-double-quantisation": no_double_quantisation,
        "--no-kbit-preparation": no_kbit_preparation,
    }
    of_adapters = {"--targets": targets is not None, "--lora-dropout": lora_dropout is not None}
    check_ranks(lora_rank, qlora, rank)
    check_given(of_qlora, qlora, "--qlora", "no weight is in NF4")
    check_given(of_adapters, qlora or lora_rank is not None, "--lora or --qlora", "there are no adapters")
    adapters = {
        "lora_rank": lora_rank or (rank or 16) * qlora,
        "lora_targets": "all-linear" if targets is None else target_names(targets),
        "lora_dropout": lora_dropout or 0.0,
        "quantisation": "nf4" if qlora else None,
        "double_quantisation": not no_double_quantisation,
        "kbit_preparation": False if no_kbit_preparation else None,
    }
    return Plan(model, **adapters, **fields)


def check_ranks(lora_rank: int | None, qlora: bool, rank: int | None) -> None:
    """Raises ValueError if --rank would have no effect: without --qlora, or beside the rank that --lora gives."""
    if rank is not None and not qlora:
        raise ValueError(f"--rank belongs to --qlora; use --lora {rank}.")
    if rank is not None and lora_rank is not None:
        raise ValueError(
            f"--lora {lora_rank} and --rank {rank} both say the rank of the adapters; leave one out."
        )


def check_given(options: dict[str, bool], known: bool, owner: str, why: str) -> None:
    """Raises ValueError for the first of the options that is given where nothing takes it."""
    for name, given in options.items():
        if given and not known:
            raise ValueError(f"{name} belongs to {owner}; without it {why}, and the option has no effect.")


def target_names(text: str) -> tuple[str, ...]:
    """The names of a list with commas. Raises ValueError if it has none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("--targets names no layer; write for example --targets q_proj,v_proj.")
    return names


def list_known(context, parameter, wanted: bool) -> None:
    """Print the presets and the cards that `plan` knows, and end."""
    if not wanted:
        return
    from coursekit.memory.plan_report import known

    console = make_console()
    for table in known():
        console.print(table)
    context.exit()


@main.command()
@click.argument("model")
@plan_options
@click.option("--gpu", "cards", multiple=True, metavar="CARD",
              help='The card: GB or a name (24, "RTX 4090"); may be given several times.')  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print plain JSON, sizes in bytes.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=list_known,
              help="Show the presets and the cards, and end.")  # fmt: skip
def plan(model, cards, as_json, **options):
    """Will it fit? The memory of a training step of MODEL: a preset (llama-3-8b), a config.json or its folder. All
    presets and cards: --list.

    Status 0: it fits (or no card was named); 1: it does not fit one of the cards; 2: nobody could run that.
    """
    from coursekit.memory.fit import fits
    from coursekit.memory.planner import estimate

    try:
        wanted = make_plan(model, **options)
        found, verdicts = estimate(wanted), [fits(wanted, card) for card in cards]
    except ValueError as error:
        raise Problem(str(error)) from error
    show_plan(found, verdicts, as_json)
    sys.exit(0 if all(fit.fits for fit in verdicts) else 1)


def show_plan(found, verdicts, as_json: bool) -> None:
    from coursekit.memory import plan_report

    if as_json:
        click.echo(json.dumps(plan_report.as_dict(found, verdicts), indent=2))
        return
    console = make_console()
    for part in plan_report.parts(found, verdicts, console.width):
        console.print(part, markup=False, highlight=False)


if __name__ == "__main__":
    main()
