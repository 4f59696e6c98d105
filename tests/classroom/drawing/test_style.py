"""A figure is the same twice, describes itself, and every colour of it follows light and dark."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure

from classroom.drawing import style as st

ALT = 'Two lines cross at <0.5> & "stay" there'
DRAW = """
import numpy as np
from classroom.drawing import style as st

@st.styled
def example():
    fig, ax = st.canvas()
    x = np.linspace(0, 1, 50)
    for k in range(8):
        ax.plot(x, k * x, label=f"series {k}", marker=st.MARKERS[k], markevery=10)
    ax.bar([0.2, 0.4], [1, 2], width=0.1, color=st.OKABE_ITO["sky"], hatch=st.HATCHES[1], alpha=0.4)
    ax.set(title="Lines of slope $2^k$ fan out", xlabel="x [s]", ylabel="y [m]")
    ax.legend()
    return fig
"""
exec(DRAW)


@pytest.fixture(scope="module")
def svg():
    return st.picture(example(), ALT).svg  # noqa: F821 - defined by DRAW


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_contrast_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_two_processes_draw_the_same_bytes(svg):
    code = DRAW + f"print(st.picture(example(), {ALT!r}).svg, end='')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other == svg


def test_alt_text_stands_in_three_places(svg):
    root = ET.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") == ALT
    assert root[0].tag.endswith("title") and root[0].text == ALT
    data, metadata = st.picture(example(), ALT)._repr_mimebundle_()  # noqa: F821
    assert data["text/plain"] == ALT and metadata == {"image/svg+xml": {"alt": ALT}}


def test_every_colour_is_a_variable_of_the_palette(svg):
    drawn = re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", drawn))
    names = {m[1] for value in used if (m := re.fullmatch(r"var\(--fig-(\w+),#[0-9a-f]{6}\)", value))}
    assert [value for value in used if not value.startswith(("var(--fig-", "none", "url(#"))] == []
    assert names == set(st.SHADES)
    css = re.search(r"<style>(.*?)</style>", svg, flags=re.DOTALL)[1]
    light, dark = css.split("@media (prefers-color-scheme:dark)")
    assert all(f"--fig-{name}:{shades[1]}" in light for name, shades in st.SHADES.items())
    assert all(f"--fig-{name}:{shades[2]}" in dark for name, shades in st.SHADES.items())


@pytest.mark.parametrize("name", [name for name in st.SHADES if name not in ("panel", "grid")])
def test_every_ink_is_legible_on_the_panel(name):
    """4.5 is what WCAG asks of text; a grid line is meant to be faint."""
    _, light, dark = st.SHADES[name]
    _, light_panel, dark_panel = st.SHADES["panel"]
    assert contrast(light, light_panel) >= 4.5 and contrast(dark, dark_panel) >= 4.5


def test_each_palette_entry_is_drawn_with_its_own_colour():
    assert len({drawn for drawn, _, _ in st.SHADES.values()}) == len(st.SHADES)


def test_rules_stay_inside_the_figure_and_ids_are_its_own(svg):
    """Figures stand together in a page: no rule may reach another, no id may occur twice."""
    css = re.search(r"<style>(.*?)</style>", svg, flags=re.DOTALL)[1]
    selectors = re.findall(r"(?:^|[{}])([^{}@]+)\{", css)
    assert selectors and all(".ckfig" in s for s in selectors)
    other = st.picture(example(), "Another description").svg  # noqa: F821
    ids = [re.findall(r' id="([^"]+)"', s) for s in (svg, st.picture(Figure(), "empty").svg)]
    assert len(set(ids[0])) == len(ids[0]) and not set(ids[0]) & set(ids[1])
    referred = {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)}
    assert referred == set(ids[0]) and len(other) > 0


def test_no_request_no_date_and_a_modest_size(svg):
    assert not re.search(r"(href|src)=\"(?!#)|@import|<script|dc:date", svg)
    assert len(svg.encode()) < 150_000


@pytest.mark.parametrize("alt", [None, "", "  "])
def test_a_figure_without_description_is_refused(alt):
    with pytest.raises(ValueError, match="alt text"):
        st.picture(Figure(), alt)


def test_the_label_of_a_figure_is_its_description():
    fig = Figure()
    fig.set_label("What it shows")
    assert st.picture(fig).alt == "What it shows" and st.picture(fig, "Better").alt == "Better"


@pytest.mark.parametrize("colour", ["#123456", "white", "#0072b280"])
def test_a_colour_outside_the_palette_is_refused(colour):
    with st.style():
        fig, ax = st.canvas()
        ax.plot([0, 1], [0, 1], color=colour, marker="o")
    if colour == "#0072b280":  # a palette colour with alpha is drawn as colour and opacity
        assert "var(--fig-blue" in st.picture(fig, "line").svg
    else:
        with pytest.raises(ValueError, match="cannot follow light and dark"):
            st.picture(fig, "line")


def test_slides_have_larger_type_and_lines():
    small, large = st.rc("notebook"), st.rc("slide")
    assert all(large[key] > 1.4 * small[key] for key in ("font.size", "xtick.labelsize", "lines.linewidth"))
    width, height = (round(96 * inches) for inches in large["figure.figsize"])
    assert (width, height) == (1100, 520)
    with pytest.raises(ValueError, match="notebook, slide"):
        st.rc("poster")


def test_style_leaves_no_trace():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with st.style("slide"):
        pass
    assert dict(mpl.rcParams) == before


def test_show_displays_once_and_closes(monkeypatch):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig, ax = pyplot.subplots()
    with st.style():
        fig, ax = pyplot.subplots()
        ax.plot(np.arange(3))
    st.show(fig, "A line")
    assert len(shown) == 1 and shown[0].alt == "A line" and fig.number not in pyplot.get_fignums()
    pyplot.close("all")


def shown_by(monkeypatch, *args, **kwargs):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    st.show(*args, **kwargs)
    return shown[0]


def test_the_finding_is_drawn_as_the_title_and_leaves_the_description(monkeypatch):
    fig = example()  # noqa: F821
    fig.set_label("Eight lines")
    assert shown_by(monkeypatch, fig, "They fan out").alt == "Eight lines"
    assert fig.get_suptitle() == "They fan out"


def test_show_draws_the_title_that_styled_draws(monkeypatch):
    """In the same place and type, whether the finding is known before drawing or after."""
    before, after = example(title="They fan out"), example()  # noqa: F821
    shown_by(monkeypatch, after, "They fan out")
    assert [
        (t.get_text(), t.get_position(), t.get_fontsize(), t.get_weight())
        for t in (before._suptitle, after._suptitle)
    ] == [("They fan out", before._suptitle.get_position(), before._suptitle.get_fontsize(), "bold")] * 2


def test_alt_text_wins_over_label_and_finding(monkeypatch):
    fig = example()  # noqa: F821
    fig.set_label("Eight lines")
    assert shown_by(monkeypatch, fig, "They fan out", alt="Better").alt == "Better"
