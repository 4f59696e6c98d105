"""Turn a widget into a fragment of HTML that needs no kernel, no network and no widget manager.

The fragment opens with a picture. Where scripts run (an HTML export, a slide, a trusted notebook), the script after it
replaces the picture with the live widget; elsewhere (GitHub, an untrusted notebook) the picture stays.

- The script is the widget's own module, inlined, with a model of ten lines in place of Jupyter's.
- `<div>` and `<script>` are two blocks with an empty line between them and none inside the first, so that Markdown
  (Marp) passes both on unchanged.
- The styles are part of the script. A `<style>` element would swallow the rest of its block in Markdown.
- Names are hashes of the content: equal widgets give equal bytes, and two equal ones on a page do no harm.

What this leaves out: the picture, which the widget draws (`float_picture`).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

SCRIPT = """\
<script type="module">
{module}
const style = {css};
if (!document.querySelector("style[data-widget-style='{style_id}']")) {{
  const sheet = Object.assign(document.createElement("style"), {{ textContent: style }});
  sheet.dataset.widgetStyle = "{style_id}";
  document.head.append(sheet);
}}
function model() {{
  const held = {state};
  const heard = new Map();
  return {{
    get: (name) => held[name],
    set: (name, value) => {{ held[name] = value; heard.get(`change:${{name}}`)?.forEach((tell) => tell()); }},
    save_changes: () => {{}},
    on: (event, tell) => heard.set(event, [...(heard.get(event) ?? []), tell]),
    off: (event, tell) => heard.set(event, (heard.get(event) ?? []).filter((other) => other !== tell)),
  }};
}}
for (const place of document.querySelectorAll("[data-widget='{widget_id}']:not([data-live])")) {{
  place.dataset.live = "";
  place.replaceChildren();
  widget.render({{ model: model(), el: place }});
}}
</script>"""


def fragment(module: str, css: str, state: dict, svg: str, alt: str, caption: str) -> str:
    """The widget as HTML: a picture that becomes the live widget where scripts run.

    `module` is the source of an anywidget module that ends in `export default ...`; `state` is what its model
    holds, as JSON can write it; `alt` describes the picture `svg`, `caption` stands below it.
    Raises ValueError if the module cannot stand inside a script element.
    """
    widget_id = _digest(module + css + _json(state))
    script = SCRIPT.format(
        module=_inline(module), css=_json(css), style_id=_digest(css), state=_json(state), widget_id=widget_id
    )
    return f"{_figure(widget_id, svg, alt, caption)}\n\n{script}\n"


def _figure(widget_id: str, svg: str, alt: str, caption: str) -> str:
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return (
        f'<div data-widget="{widget_id}"><figure style="margin: 0">'
        f'<img style="max-width: 100%" alt="{html.escape(alt)}" src="{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure></div>"
    )


def _inline(module: str) -> str:
    """The module's source, with its default export as the constant `widget` of the script around it."""
    if module.count("export default ") != 1:
        raise ValueError(
            "expected a module with exactly one `export default`; write the widget as one object."
        )
    for trap in ("</script", "<!--"):
        if trap in module:
            raise ValueError(
                f"a module with {trap!r} in it would end its script element early; split that text."
            )
    return re.sub(r"^export ", "", module.replace("export default ", "const widget = "), flags=re.MULTILINE)


def _json(value: object) -> str:
    """JSON that may stand inside a script element: `</` is written `<\\/`."""
    return json.dumps(value, sort_keys=True).replace("</", "<\\/")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
