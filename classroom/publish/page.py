"""Turns an executed notebook into one HTML file that opens anywhere, offline, in the reader's light or dark.

nbconvert's own page asks three servers for scripts. This one asks none: formulas become MathML when the page is made,
figures are embedded with their alt texts, widgets show their static fallback.
"""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
# Of an output in several forms a page shows the first of these. No widget views, no bare JavaScript.
PRIORITY = [
    "text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain",
]  # fmt: skip


def to_html(notebook, title: str) -> str:
    """Return the page as text. `notebook` is not changed."""
    import copy

    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(TEMPLATES)],
        filters={"markdown2html": markdown_to_html},
    )
    exporter.display_data_priority = PRIORITY
    exporter.config.NbConvertBase.display_data_priority = PRIORITY
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return html


def markdown_to_html(source: str) -> str:
    """Convert Markdown as a notebook understands it, with formulas as MathML."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body):
            return formula(body, "inline")

        def block_math(self, body):
            return formula(body, "block")

    return MarkdownWithMath(renderer=Renderer(escape=False)).render(source)


def formula(latex: str, display: str) -> str:
    """Convert LaTeX to MathML, or to code where the converter gives up. `display` is "inline" or "block"."""
    import html

    from latex2mathml.converter import convert

    # The converter knows only the second name of the same thing.
    latex = latex.replace("{aligned}", "{align*}")
    # The converter's errors have no common class, and a page with the source of a formula is still a page.
    try:
        return convert(latex, display=display)
    except Exception:
        return f"<code>{html.escape(latex)}</code>"
