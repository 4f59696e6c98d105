"""The `coursekit` command. What a command needs is imported when it runs, so that `--help` answers at once.

`publish.endings` lists the exit statuses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from classroom.publish.endings import Amount, Course, statuses_text
from classroom.publish.sources import PROFILES
from coursekit.units import GB


def limits_options(command):
    """Add the options that limit what a notebook may take."""
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
    from classroom.publish.limits import Limits

    return Limits(ram_bytes=ram_limit * GB, cell_seconds=cell_timeout, seconds=timeout)


def make_console(as_json: bool = False):
    """Return the console for text that people read: on the error stream if stdout is for JSON."""
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
    """Show what this machine can do, and what each missing piece disables."""
    from classroom.machine.doctor import as_dict, doctor

    report = doctor()
    if as_json:
        print_json(as_dict(report))
    else:
        click.echo(str(report))
    sys.exit(0 if report.ready else 1)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--profile", type=click.Choice(PROFILES), default="ci", show_default=True,
              help="Sizes for a quick check, for a laptop, for a GPU.")  # fmt: skip
@click.option("-p", "--parameter", "parameters", type=(str, str), multiple=True, metavar="NAME VALUE",
              help="Set a parameter of the notebooks that have it; may be given several times.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for copies and pages  [default: build]")
@limits_options
@json_option
def run(names, profile, parameters, out, ram_limit, cell_timeout, timeout, as_json):  # fmt: skip
    """Run notebooks headless: all, or those in NAMES (01_formats, formats, 1, solutions/01_formats)."""
    from classroom.publish.runs import as_dict, failure_panel, run_all, table
    from classroom.publish.sources import all_sources, find_root, parse_value, pick

    root, console = find_root(), make_console(as_json)
    out = out or root / "build"
    values = {name: parse_value(text) for name, text in parameters}
    limits = make_limits(ram_limit, cell_timeout, timeout)
    runs = run_all(
        pick(all_sources(root), names), console, profile=profile, parameters=values, limits=limits, out=out
    )
    console.print(table(runs))
    failed = [run for run in runs if not run.ok]
    for run in failed:
        console.print(failure_panel(run))
    console.print(f"Executed copies and pages: {out}", markup=False, highlight=False)
    if as_json:
        print_json({"ok": not failed, "out": str(out), "runs": [as_dict(run) for run in runs]})
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--check", "check_only", is_flag=True, help="Write nothing; list the committed files that are stale."
)
@click.option("--force", is_flag=True, help="Build what is up to date too.")
@limits_options
@json_option
def build(names, check_only, force, ram_limit, cell_timeout, timeout, as_json):
    """Build notebooks, exercises and decks from their text sources: all, or those in NAMES."""
    from classroom.publish import builder, slides
    from classroom.publish.runs import failure_panel
    from classroom.publish.sources import all_sources, find_root, pick

    if as_json and not check_only:
        raise click.UsageError("--json belongs to --check: it lists what is stale.")
    root, console = find_root(), make_console(as_json)
    sources, limits = pick(all_sources(root), names), make_limits(ram_limit, cell_timeout, timeout)
    if check_only:
        stale = builder.check_notebooks(sources, console, limits=limits)
        rest = builder.check_rest(root, console)
        if stale or rest:
            console.print(f"Build again:  coursekit build {' '.join(names)}", markup=False)
        if as_json:
            print_json({"ok": not (stale or rest), "stale": stale, "rest": rest})
        sys.exit(1 if stale or rest else 0)
    runs = builder.build_notebooks(sources, console, force=force, limits=limits)
    failed = [run for run in runs if not run.ok]
    for run in failed:
        console.print(failure_panel(run))
    builder.write_exercises(root, console)
    slides.build_decks(names, console)
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("notebooks", nargs=-1, required=True, type=click.Path(path_type=Path))
@limits_options
@json_option
def check(notebooks, ram_limit, cell_timeout, timeout, as_json):
    """Run exercise NOTEBOOKS and show what their checks say (exercises/01_formats.ipynb).

    This is a self-check. It runs the notebook's own code as you, with your rights: the limits are for accidents and
    do not lock anything in. For other people's work use a container:

    \b
      docker run --rm --network none --memory 4g --pids-limit 200 \\
        -v "$PWD/handed-in:/in:ro" IMAGE coursekit check /in/01_formats.ipynb

    The verdicts are what the notebook shows, so its author can forge them. Marks come from the hidden tests in
    solutions/, which a teacher runs with nbgrader, in a fresh kernel, on a machine of their own.
    """
    from classroom.publish.runs import Board
    from classroom.publish.verdicts import as_dict, check_notebook, require_file, show

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
    """Build decks: all, or those in NAMES (01_formats)."""
    from classroom.publish.slides import build

    for path in build(names, formats or ("html",), out, student):
        click.echo(path)


@main.command()
@json_option
def claims(as_json):
    """Compute every claim of the register and write its page."""
    from classroom.publish import claims
    from classroom.publish.sources import find_root
    from classroom.records.claim import mismatches

    root = find_root()
    register = claims.load()
    wrong = [sentence for rows in register.values() for row in rows for sentence in mismatches(row)]
    for sentence in wrong:
        click.echo(sentence, err=True)
    pages = claims.write(root)
    if as_json:
        counts = {word: len(rows) for word, rows in register.items()}
        paths = [str(path) for path in pages]
        print_json({"ok": not wrong, "claims": counts, "wrong": wrong, "pages": paths})
    else:
        click.echo("\n".join(map(str, pages)))
    sys.exit(1 if wrong else 0)


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def plan(arguments):
    """Estimate the memory of a training step of a model: will it fit?"""
    from coursekit.cli import run_plan

    sys.exit(run_plan(arguments))


if __name__ == "__main__":
    main()
