"""The kernel-less fragment: whole in Markdown, safe in a script element, one name per content."""

import re

import pytest

from coursekit.widgets.static import fragment

MODULE = "export const two = 2;\nexport default { render };\n"
STATE = {"text": "</script><b>", "n": 1}


def make(module=MODULE, state=STATE, alt="a < b", caption="c"):
    return fragment(module, ".x { color: red }", state, "<svg/>", alt, caption)


def test_markdown_sees_two_blocks():
    """CommonMark 4.6: a `<div>` block ends at the first empty line, `<script>` at its end tag."""
    html = make()
    picture, script = html.split("\n\n", 1)
    assert picture.startswith("<div ") and picture.endswith("</div>") and "\n" not in picture
    assert script.startswith('<script type="module">\n') and script.endswith("</script>\n")
    assert "<style" not in html


def test_nothing_inside_ends_the_script_early():
    assert make().count("</script") == 1
    for trap in ("</script>", "<!--"):
        with pytest.raises(ValueError, match="end its script element early"):
            make(module=f"const s = '{trap}';\n" + MODULE)


def test_a_module_exports_one_widget():
    assert "const widget = { render };" in make() and "\nconst two = 2;" in make()
    with pytest.raises(ValueError, match="exactly one `export default`"):
        make(module="export const two = 2;")


def test_names_derive_from_the_content():
    def name(html):
        return re.search(r'data-widget="(\w+)"', html)[1]

    assert name(make()) == name(make(caption="other words")) != name(make(state={"n": 2}))


def test_words_for_people_are_escaped():
    assert 'alt="a &lt; b &quot;c&quot;"' in make(alt='a < b "c"')
