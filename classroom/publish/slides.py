"""Builds decks: slides/NN_name.md -> slides/build/NN_name.html, .pdf, .pptx, .md and a handout.

1. Numbers in the prose: `{{ FP16.max:,.0f }}` in a slide or its notes is an f-string field, evaluated in the kernel
   where it stands. No number is ever typed.
2. A fresh kernel runs the cells and these fields. Their outputs are kept by the digest of what they depend on, which is
   not the prose: a changed comma in the notes runs no cell.
3. Each cell is replaced by its richest output: Markdown, a figure, HTML. What a cell prints is for the author and does
   not reach the slide, unless the cell is tagged `show-code`; then its source and what it prints do.
4. Marp writes the formats. The student build is the same deck without the teacher's notes (NN_name-student).
"""

from __future__ import annotations

import base64
import html
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from classroom.publish.deck import (
    INLINE_VALUE,
    read_deck,
    split_front_matter,
    with_plain_notes,
    without_notes,
)
from classroom.publish.execute import REPRODUCIBLE
from classroom.publish.execute import execute as run_notebook
from classroom.publish.marp import MissingTool, print_handout, run_marp
from classroom.publish.sources import KERNELSPEC, CourseError, find_root, matches_name
from classroom.publish.stamps import inputs_digest

FORMATS = ("html", "pdf", "pptx", "md", "handout")
INLINE_TAG = "inline-values"
FRAME_HEAD = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='color-scheme' content='light dark'>"
)


def deck_paths(names: Iterable[str] = (), *, root: Path | None = None) -> list[Path]:
    """Return the decks of these names ("01_formats", "formats" or "01"), in order; all decks if none is named.

    Raises CourseError for a name that no deck has.
    """
    decks = sorted(((root or find_root()) / "slides").glob("[0-9][0-9]_*.md"))
    wanted = [name.removesuffix(".md") for name in names]
    found = {name: [d for d in decks if name in (d.stem, *d.stem.split("_", 1))] for name in wanted}
    unknown = [name for name, hits in found.items() if not hits]
    if unknown:
        known = ", ".join(deck.stem for deck in decks)
        raise CourseError(f"no deck is called {', '.join(unknown)}; there are {known}.")
    return [hits[0] for hits in found.values()] if wanted else decks


def build(
    names: Iterable[str] = (),
    formats: Iterable[str] = ("html",),
    out: Path | None = None,
    student: bool = False,
) -> list[Path]:
    """Build decks and return the files written, deck by deck in the order of `formats`.

    names    as for `deck_paths`; none = all
    formats  of "html", "pdf", "pptx", "md" (executed Markdown, no Node needed), "handout" (A4)
    out      the folder to write to; slides/build by default
    student  leave the teacher's notes out

    Raises CourseError for an unknown name or format and where a cell or marp fails; its kind MissingTool
    where node, marp or Chromium is missing.
    """
    formats = list(formats)
    if not set(formats) <= set(FORMATS):
        raise CourseError(f"formats must be among {', '.join(FORMATS)}; got {', '.join(formats)}.")
    out = Path(out) if out else find_root() / "slides" / "build"
    out.mkdir(parents=True, exist_ok=True)
    return [path for deck in deck_paths(names) for path in _build_one(deck, formats, out, student)]


def build_decks(names: tuple[str, ...], console) -> None:
    """Build the HTML of every deck, or of those that `names` name; without Node, print a sentence and build none."""
    decks = [deck.stem for deck in deck_paths()]
    wanted = [deck for deck in decks if not names or any(matches_name(deck, name) for name in names)]
    try:
        for path in build(wanted) if wanted else []:
            console.print(f"slides/build/{path.name}  built", markup=False, highlight=False)
    except MissingTool as missing:
        console.print(f"slides  not built: {missing}", markup=False, highlight=False)


def _build_one(deck: Path, formats: list[str], out: Path, student: bool) -> list[Path]:
    markdown = executed_markdown(deck, find_root() / "slides" / "build" / "cache")
    stem = deck.stem
    if student:
        markdown = without_notes(markdown)
        stem += "-student"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{stem}.md")
        source.write_text(markdown, encoding="utf-8")
        return [_write(source, kind, out) for kind in formats]


def _write(source: Path, kind: str, out: Path) -> Path:
    """Write one format of one executed deck."""
    root, markdown = find_root(), source.read_text(encoding="utf-8")
    output = out / f"{source.stem}.{kind}"
    if kind == "handout":
        return _write_handout(source, out / f"{source.stem}-handout.pdf")
    if kind == "md":
        output.write_text(markdown, encoding="utf-8")
        return output
    markdown = with_plain_notes(markdown)
    if kind == "html":
        switch = (root / "slides" / "theme" / "switch.js").read_text(encoding="utf-8")
        markdown += f"\n<script>\n{switch}</script>\n"
    plain = source.with_suffix(".plain.md")
    plain.write_text(markdown, encoding="utf-8")
    run_marp(plain, output, kind, root=root)
    return output


def _write_handout(source: Path, output: Path) -> Path:
    deck, bare = read_deck(source), source.with_suffix(".bare.html")
    run_marp(source, bare, "bare", root=find_root())
    print_handout(bare, [slide.notes for slide in deck.slides], deck.front_matter["title"], output)
    return output


# ---------------------------------------------------------------- cells become what they show


def executed_markdown(deck: Path, cache: Path) -> str:
    """Return plain Marp Markdown: values filled in, cells replaced by outputs, from `cache` if these still hold.

    Raises CourseError with the cell that failed and why.
    """
    head, body = split_front_matter(deck.read_text(encoding="utf-8"))
    notebook = notebook_of(body)
    kept = cache / f"{deck.stem}-{fingerprint(notebook, deck)}.json"
    if not kept.exists():
        outputs = execute(notebook, deck)
        cache.mkdir(parents=True, exist_ok=True)
        for stale in cache.glob(f"{deck.stem}-*"):
            stale.unlink(missing_ok=True)
        kept.write_text(json.dumps(outputs), encoding="utf-8")
    fill(notebook, json.loads(kept.read_text(encoding="utf-8")))
    return f"---\n{head}\n---\n{render(notebook)}"


def notebook_of(body: str):
    """Read the deck as a notebook, with a cell that prints the values before each Markdown cell with `{{ }}`."""
    import jupytext

    notebook = jupytext.reads(body, fmt="md")
    notebook.metadata["kernelspec"] = KERNELSPEC
    notebook.cells = [cell for written in notebook.cells for cell in (*_value_cell(written), written)]
    return notebook


def _value_cell(cell) -> list:
    from nbformat.v4 import new_code_cell

    fields = INLINE_VALUE.findall(cell.source) if cell.cell_type == "markdown" else []
    if not fields:
        return []
    values = ", ".join(f"f'''{{{field}}}'''" for field in fields)
    return [new_code_cell(f"print(__import__('json').dumps([{values}]))", metadata={"tags": [INLINE_TAG]})]


def fingerprint(notebook, deck: Path) -> str:
    """Return 16 hex digits over the code cells, the values asked for, and all they reach; not over prose and notes."""
    code = "\n".join(f"# {cell.metadata.get('tags')}\n{cell.source}" for cell in _code_cells(notebook))
    return inputs_digest(code, deck.parent, find_root())[:16]


def execute(notebook, deck: Path) -> list[list[dict]]:
    """Run every code cell in a fresh kernel, within the limits of a notebook, and return their outputs."""
    run = run_notebook(notebook, f"slides/{deck.stem}", cwd=deck.parent, env=REPRODUCIBLE)
    if run.failure:
        failure = run.failure
        raise CourseError(f"a cell of {deck.name} ended in {failure.reason}\n\n{failure.source}")
    return [cell.outputs for cell in _code_cells(run.notebook)]


def fill(notebook, outputs: list[list[dict]]) -> None:
    """Put the kept outputs into the code cells."""
    from nbformat import from_dict

    for cell, kept in zip(_code_cells(notebook), outputs, strict=True):
        cell.outputs = [from_dict(output) for output in kept]


def _code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def render(notebook) -> str:
    """Return an executed notebook as Markdown: prose with its values filled in, cells replaced by their outputs."""
    parts, values = [], []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if INLINE_TAG in tags:
            values = json.loads(_printed(cell))
        elif cell.cell_type == "markdown":
            queue = iter(values)
            parts.append(INLINE_VALUE.sub(lambda _, queue=queue: next(queue), cell.source))
            values = []
        elif cell.cell_type == "code":
            if "show-code" in tags:
                parts.append(_code(cell))
            parts += [_shown(output) for output in cell.outputs if output.get("data")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _printed(cell) -> str:
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


def _code(cell) -> str:
    printed = _printed(cell).rstrip()
    result = f"\n\n```text\n{printed}\n```" if printed else ""
    return f"```python\n{cell.source.strip()}\n```{result}"


def _shown(output) -> str:
    """Return one output as Markdown, in its richest form; "" for what has only plain text."""
    data, metadata = output["data"], output.get("metadata", {})
    if "text/markdown" in data:
        return data["text/markdown"]
    for mime in ("image/svg+xml", "image/png"):
        if mime in data:
            alt = metadata.get(mime, {}).get("alt") or metadata.get("alt") or ""
            return _image(data[mime], mime, alt)
    if "text/html" in data:
        return _html(data["text/html"], metadata.get("text/html", {}))
    return ""


def _image(content: str, mime: str, alt: str) -> str:
    # Not ![alt](...): Marp reads the words of an alt text ("left", "fit") as instructions for the picture.
    encoded = content.replace("\n", "")
    if mime != "image/png":
        encoded = base64.b64encode(content.encode()).decode()
    return f'<p class="figure"><img src="data:{mime};base64,{encoded}" alt="{html.escape(alt)}"></p>'


def _html(content: str, metadata: dict) -> str:
    """Put a fragment with a style or a script into a frame of its own, where neither can touch the deck."""
    if re.search(r"<(script|style)\b", content):
        title = html.escape(metadata.get("title", "Interactive figure"))
        page = f"{FRAME_HEAD}<body style='margin:0'>{content}</body></html>"
        one_line = html.escape(page).replace("\n", "&#10;")
        return f'<iframe class="live" title="{title}" srcdoc="{one_line}"></iframe>'
    return re.sub(r"\n\s*\n", "\n", content.strip())  # a blank line would end the HTML block in Markdown
