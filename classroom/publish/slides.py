"""Builds decks: slides/NN_name.md -> slides/build/NN_name.html, .pdf, .pptx, .md and a handout.

1. Numbers in the prose: `{{ FP16.max:,.0f }}` in a slide or its notes is an f-string field, evaluated in the kernel
   where it stands. No number is ever typed.
2. A fresh kernel runs the cells.
3. Each cell is replaced by its richest output: Markdown, a figure, HTML. What a cell prints is for the author and does
   not reach the slide, unless the cell is tagged `show-code`; then its source and what it prints do.
4. Marp writes the formats. The student build is the same deck without the teacher's notes (NN_name-student).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import classroom
import coursekit
from classroom.publish.deck import (
    INLINE_VALUE,
    read_deck,
    split_front_matter,
    with_plain_notes,
    without_notes,
)
from classroom.publish.execute import REPRODUCIBLE
from classroom.publish.execute import execute as run_notebook
from classroom.publish.marp import print_handout, run_marp
from classroom.publish.sources import KERNELSPEC, CourseError, find_root

FORMATS = ("html", "pdf", "pptx", "md", "handout")


def deck_paths(names: Iterable[str] = (), *, root: Path | None = None) -> list[Path]:
    """The decks of these names ("01_formats", "formats" or "01"), in order; all decks if none is named.

    Raises CourseError for a name that no deck has.
    """
    decks = sorted(((root or find_root()) / "slides").glob("[0-9][0-9]_*.md"))
    wanted = [name.removesuffix(".md") for name in names]
    found = {name: [d for d in decks if name in (d.stem, *d.stem.split("_", 1))] for name in wanted}
    unknown = [name for name, hits in found.items() if not hits]
    if unknown:
        raise CourseError(
            f"no deck is called {', '.join(unknown)}; there are {', '.join(d.stem for d in decks)}."
        )
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


def _build_one(deck: Path, formats: list[str], out: Path, student: bool) -> list[Path]:
    markdown = executed_markdown(deck, find_root() / "slides" / "build" / "cache")
    markdown = without_notes(markdown) if student else markdown
    stem = f"{deck.stem}-student" if student else deck.stem
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{stem}.md")
        source.write_text(markdown, encoding="utf-8")
        return [_write(source, kind, out) for kind in formats]


def _write(source: Path, kind: str, out: Path) -> Path:
    """Write one format of one executed deck."""
    root, output = find_root(), out / f"{source.stem}.{kind}"
    if kind == "handout":
        return _handout(source, out / f"{source.stem}-handout.pdf")
    if kind == "md":
        output.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    else:
        plain = source.with_suffix(".plain.md")
        switch = (
            (root / "slides" / "theme" / "switch.js").read_text(encoding="utf-8") if kind == "html" else ""
        )
        script = f"\n<script>\n{switch}</script>\n" if switch else ""
        plain.write_text(with_plain_notes(source.read_text(encoding="utf-8")) + script, encoding="utf-8")
        run_marp(plain, output, kind, root=root)
    return output


def _handout(source: Path, output: Path) -> Path:
    deck, bare = read_deck(source), source.with_suffix(".bare.html")
    run_marp(source, bare, "bare", root=find_root())
    print_handout(bare, [slide.notes for slide in deck.slides], deck.front_matter["title"], output)
    return output


PACKAGES = (Path(coursekit.__file__).parent, Path(classroom.__file__).parent)
VERSIONS_THAT_SHOW = ("torch", "numpy", "matplotlib", "ml_dtypes", "jupytext")
INLINE_TAG = "inline-values"
FRAME_HEAD = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='color-scheme' content='light dark'>"
)


def fingerprint(deck: Path) -> str:
    """16 hex digits over the deck, all code of the course and the libraries whose version can change a picture."""
    digest = hashlib.sha256(deck.read_bytes())
    for package in PACKAGES:
        files = (p for p in package.rglob("*") if p.suffix in {".py", ".js", ".css", ".json", ".toml"})
        for path in sorted(files):
            digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    digest.update(repr([sys.version, *map(version, VERSIONS_THAT_SHOW)]).encode())
    return digest.hexdigest()[:16]


def executed_markdown(deck: Path, cache: Path) -> str:
    """The executed deck, from `cache` if nothing it depends on has changed since."""
    kept = cache / f"{deck.stem}-{fingerprint(deck)}.md"
    if not kept.exists():
        markdown = execute(deck)
        cache.mkdir(parents=True, exist_ok=True)
        for stale in cache.glob(f"{deck.stem}-*.md"):
            stale.unlink(missing_ok=True)
        kept.write_text(markdown, encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def execute(deck: Path) -> str:
    """Run every cell in a fresh kernel, within the limits of a notebook, and return plain Marp Markdown.

    Raises CourseError with the cell that failed and why.
    """
    import jupytext

    head, body = split_front_matter(deck.read_text(encoding="utf-8"))
    notebook = jupytext.reads(body, fmt="md")
    notebook.metadata["kernelspec"] = KERNELSPEC
    notebook.cells = [cell for written in notebook.cells for cell in (*_value_cell(written), written)]
    run = run_notebook(notebook, f"slides/{deck.stem}", cwd=deck.parent, env=REPRODUCIBLE)
    if run.failure:
        raise CourseError(
            f"expected every cell of {deck.name} to run; this one ended in {run.failure.reason}\n\n"
            f"{run.failure.source}"
        )
    return f"---\n{head}\n---\n{render(run.notebook)}"


def _value_cell(cell) -> list:
    """A code cell that prints the values which the Markdown cell after it asks for, if it asks for any."""
    from nbformat.v4 import new_code_cell

    fields = INLINE_VALUE.findall(cell.source) if cell.cell_type == "markdown" else []
    if not fields:
        return []
    values = ", ".join(f"f'''{{{field}}}'''" for field in fields)
    return [new_code_cell(f"print(__import__('json').dumps([{values}]))", metadata={"tags": [INLINE_TAG]})]


def render(notebook) -> str:
    """Markdown of an executed notebook: prose with its values filled in, cells replaced by their outputs."""
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
            parts += [_code(cell)] if "show-code" in tags else []
            parts += [_shown(output) for output in cell.outputs if output.get("data")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _printed(cell) -> str:
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


def _code(cell) -> str:
    printed = _printed(cell).rstrip()
    result = f"\n\n```text\n{printed}\n```" if printed else ""
    return f"```python\n{cell.source.strip()}\n```{result}"


def _shown(output) -> str:
    """One output as Markdown, its richest form first; "" for what has only plain text."""
    data, metadata = output["data"], output.get("metadata", {})
    if "text/markdown" in data:
        return data["text/markdown"]
    for mime in ("image/svg+xml", "image/png"):
        if mime in data:
            alt = metadata.get(mime, {}).get("alt") or metadata.get("alt") or ""
            return _image(data[mime], mime, alt)
    return _html(data["text/html"], metadata.get("text/html", {})) if "text/html" in data else ""


def _image(content: str, mime: str, alt: str) -> str:
    # Not ![alt](...): Marp reads the words of an alt text ("left", "fit") as instructions for the picture.
    encoded = (
        content.replace("\n", "") if mime == "image/png" else base64.b64encode(content.encode()).decode()
    )
    return f'<p class="figure"><img src="data:{mime};base64,{encoded}" alt="{html.escape(alt)}"></p>'


def _html(content: str, metadata: dict) -> str:
    """A fragment with a style or a script goes into a frame of its own, where neither can touch the deck."""
    if re.search(r"<(script|style)\b", content):
        title = html.escape(metadata.get("title", "Interactive figure"))
        page = f"{FRAME_HEAD}<body style='margin:0'>{content}</body></html>"
        return f'<iframe class="live" title="{title}" srcdoc="{_one_line(html.escape(page))}"></iframe>'
    return re.sub(r"\n\s*\n", "\n", content.strip())  # a blank line would end the HTML block in Markdown


def _one_line(text: str) -> str:
    return text.replace("\n", "&#10;")
