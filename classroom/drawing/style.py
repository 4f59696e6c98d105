"""Give every figure one look: readable on light and on dark, in print, without colour, and without sight.

Matplotlib draws with fixed colours: Okabe and Ito's eight, which people with any colour vision can tell apart, plus
soft ink, grid and panel. `picture` then makes each of them a CSS variable inside the SVG, so the reader's light or dark
setting picks the shade; each shade has a contrast of at least 4.5 against the panel, so text may use it. A colour
outside the palette is refused, because it could not follow the setting. Series also differ by line style, marker or
hatch.

The same figure gives the same bytes: no date, a fixed salt, letters as outlines of the font that ships with
matplotlib.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

# name: (what matplotlib draws with, its shade on light, its shade on dark)
SHADES = {
    "panel": ("#fdfdfb", "#fcfcfa", "#12161c"),
    "ink": ("#1c232e", "#1c232d", "#e9ecf0"),
    "soft": ("#545d6a", "#545d69", "#a9b3bf"),
    "grid": ("#dde1e6", "#dde1e5", "#2f3843"),
    "blue": ("#0072b2", "#0069a6", "#64bdf0"),
    "vermillion": ("#d55e00", "#c24700", "#ff935c"),
    "green": ("#009e73", "#007d59", "#3ccba0"),
    "purple": ("#cc79a7", "#a84f85", "#e8a2cb"),
    "orange": ("#e69f00", "#936600", "#f0b64e"),
    "sky": ("#56b4e9", "#1c759f", "#a6dcfa"),
    "yellow": ("#f0e442", "#6f6a00", "#f0e442"),
}
PANEL, INK, SOFT, GRID = (SHADES[name][0] for name in ("panel", "ink", "soft", "grid"))
OKABE_ITO = {name: SHADES[name][0] for name in SHADES if name not in ("panel", "soft", "grid")}
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "---", "++")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 2)))

# preset: (inches wide, inches high, points of text, points of lines). 1 inch is 96 pixels, 1 point 1.33.
PRESETS = {"notebook": (8.4, 3.9, 10.5, 1.8), "slide": (11.46, 5.42, 16, 2.8)}


def rc(preset: str = "notebook") -> dict:
    """Return matplotlib's settings for a preset. Raises ValueError for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}.")
    width, height, text, line = PRESETS[preset]
    small = 0.9 * text
    return {
        "svg.fonttype": "path", "svg.hashsalt": "coursekit",
        "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans",
        "figure.figsize": (width, height), "figure.constrained_layout.use": True, "figure.facecolor": PANEL,
        "savefig.facecolor": PANEL, "axes.facecolor": PANEL, "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": SOFT, "axes.titlecolor": INK, "xtick.color": SOFT, "ytick.color": SOFT,
        "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID, "hatch.color": INK,
        "legend.edgecolor": GRID, "legend.facecolor": PANEL, "legend.frameon": False,
        "lines.color": INK, "patch.edgecolor": INK,
        "font.size": text, "axes.labelsize": text, "axes.titlesize": 1.12 * text,
        "figure.titlesize": 1.12 * text,
        "xtick.labelsize": small, "ytick.labelsize": small, "legend.fontsize": small,
        "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 0.9 * text,
        "lines.linewidth": line, "lines.markersize": 3 * line, "hatch.linewidth": 0.45 * line,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "axes.formatter.use_mathtext": True, "axes.prop_cycle": _cycle(),
    }  # fmt: skip


def _cycle():
    names = ("blue", "vermillion", "green", "purple", "orange", "ink", "sky", "yellow")
    colours = [OKABE_ITO[name] for name in names]
    return mpl.cycler(color=colours) + mpl.cycler(linestyle=LINES)


@contextmanager
def style(preset: str = "notebook") -> Iterator[None]:
    """Draw everything inside the block in the style of the course; `preset` is a key of PRESETS.

    Matplotlib makes tick labels when it first draws, so a figure that is first drawn outside does not get this look:
    call `fig.draw_without_rendering()` before leaving, as `styled` does.
    """
    with mpl.rc_context(rc(preset)):
        yield


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a drawing function: it draws in the course's style and takes two more arguments.

    preset  "notebook" or "slide"
    title   the finding, in a sentence: the same as the second argument of `show`
    """

    @functools.wraps(draw)
    def in_style(*args, preset: str = "notebook", title: str = "", **kwargs) -> Figure:
        with style(preset):
            fig = draw(*args, **kwargs)
            if title:
                _entitle(fig, title)
            fig.draw_without_rendering()
        return fig

    return in_style


def _entitle(fig: Figure, title: str) -> None:
    fig.suptitle(title, x=0.01, ha="left", weight="bold")


def canvas(rows: int = 1, columns: int = 1, height: float = 1.0, **kwargs):
    """Return (figure, axes) as `pyplot.subplots` does, but outside pyplot; `height` is a factor of the preset's."""
    width, full = mpl.rcParams["figure.figsize"]
    fig = Figure(figsize=(width, full * height))
    return fig, fig.subplots(rows, columns, **kwargs)


@dataclass(frozen=True)
class Picture:
    """An SVG with its description, as a notebook displays it."""

    svg: str
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/svg+xml": self.svg, "text/plain": self.alt}, {"image/svg+xml": {"alt": self.alt}}

    def __repr__(self) -> str:
        return self.alt


def show(fig: Figure, finding: str = "", *, alt: str | None = None) -> None:
    """Display the figure once, as an SVG that describes itself, and close it.

    finding  what the figure shows, in a sentence: drawn as its title (on a slide the slide's own title says it)
    alt      what a person who cannot see the figure should learn from it; without it the figure's own label, which
             the functions of `figures` set, and without that the finding

    Raises ValueError if the figure has none of the three.
    """
    from IPython.display import display

    if finding:
        with style():
            _entitle(fig, finding)
            fig.draw_without_rendering()
    display(picture(fig, fig.get_label() or finding if alt is None else alt))
    _close(fig)


def picture(fig: Figure, alt: str | None = None) -> Picture:
    """Make a Picture of the figure. Raises ValueError without alt text, or if a colour is not in the palette."""
    alt = (fig.get_label() if alt is None else alt).strip()
    if not alt:
        raise ValueError(
            "got a figure without alt text. Say in a sentence what it shows: show(fig, alt='...')."
        )
    buffer = io.StringIO()
    with style():
        fig.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Picture(_finish(buffer.getvalue(), alt), alt)


def _close(fig: Figure) -> None:
    """Forget a figure that came from pyplot, or it would be displayed again at the end of the cell."""
    if fig.canvas.manager is not None:
        from matplotlib import pyplot

        pyplot.close(fig)


def _finish(svg: str, alt: str) -> str:
    """Make matplotlib's SVG fit for a page with others: own ids, colours that follow light and dark, alt text."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>\*\{(.*?)\}</style>", rf"<style>{_css()}.ckfig *{{\1}}</style>", svg, count=1)
    svg = re.sub(r"(fill|stroke): ?(#[0-9a-fA-F]{3,8})\b", _as_variable, svg)
    svg = _own_ids(svg)
    label = escape(alt, quote=True)
    start = f'<svg class="ckfig" role="img" aria-label="{label}" style="max-width:100%;height:auto"'
    svg = svg.replace("<svg", start, 1)
    end_of_tag = svg.index(">") + 1
    return svg[:end_of_tag] + f"\n<title>{escape(alt)}</title>" + svg[end_of_tag:]


def _css() -> str:
    light, dark = ("".join(f"--fig-{name}:{shades[k]};" for name, shades in SHADES.items()) for k in (1, 2))
    return (
        f".ckfig{{{light}}}@media (prefers-color-scheme:dark){{.ckfig{{{dark}}}}}"
        # the theme that the page names wins over the system's
        f'body[data-jp-theme-light="true"] .ckfig{{{light}}}'
        f'body[data-jp-theme-light="false"] .ckfig{{{dark}}}'
    )


VARIABLES = {drawn: f"var(--fig-{name},{light})" for name, (drawn, light, _) in SHADES.items()}


def _as_variable(match: re.Match) -> str:
    if match[2].lower() not in VARIABLES:
        raise ValueError(
            f"the figure uses {match[2]}, which cannot follow light and dark. Use a colour of "
            f"style.OKABE_ITO ({', '.join(OKABE_ITO)}) or INK, SOFT, GRID, PANEL; for paler shades set alpha."
        )
    return f"{match[1]}:{VARIABLES[match[2].lower()]}"


def _own_ids(svg: str) -> str:
    """Remove ids that nothing refers to; give the others a prefix, since an id must be unique in a page."""
    found = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    used = {by_href or by_url for by_href, by_url in found}
    prefix = hashlib.sha256(svg.encode()).hexdigest()[:8]

    def prefixed(match: re.Match) -> str:
        if match[1] not in used:
            return ""
        return f' id="{prefix}-{match[1]}"'

    svg = re.sub(r' id="([^"]+)"', prefixed, svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
