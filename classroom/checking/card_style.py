"""The colours and the style sheet of the cards.

Text colours reach a contrast of 4.5 against panel and code in both palettes (a test computes it). The theme
that a page names wins (JupyterLab, VS Code, Colab); elsewhere the reader's system decides.
"""

from __future__ import annotations

PALETTES = {
    "light": {
        "panel": "#f6f8fa",
        "code": "#e9edf1",
        "line": "#c9d1d9",
        "ink": "#1f2328",
        "soft": "#4f5862",
        "pass": "#0f5c26",
        "fail": "#9a2a0a",
        "todo": "#0a4f86",
        "note": "#643a7a",
    },
    "dark": {
        "panel": "#161b22",
        "code": "#232b36",
        "line": "#3d4753",
        "ink": "#e6edf3",
        "soft": "#a9b4c0",
        "pass": "#5fd784",
        "fail": "#ff9d7d",
        "todo": "#82c4ff",
        "note": "#d6b0ff",
    },
}

THEMES = """
.ck {LIGHT}
@media (prefers-color-scheme: dark) {.ck {DARK}}
body[data-jp-theme-light="true"] .ck, body.vscode-light .ck {LIGHT}
body[data-jp-theme-light="false"] .ck, body.vscode-dark .ck, html[theme="dark"] .ck {DARK}
"""

# The doubled .ck.ck outweighs JupyterLab's own rules for tables and code.
RULES = """
.ck {background: var(--ck-panel); color: var(--ck-ink); border: 1px solid var(--ck-line)}
.ck {border-left: 4px solid var(--ck-accent); border-radius: 4px; padding: .6em .9em; margin: .3em 0}
.ck {max-width: 62em; font: 14px/1.5 var(--jp-ui-font-family, system-ui, sans-serif)}
.ck-pass {--ck-accent: var(--ck-pass)}
.ck-fail {--ck-accent: var(--ck-fail)}
.ck-todo {--ck-accent: var(--ck-todo)}
.ck-note {--ck-accent: var(--ck-note)}
.ck.ck p {margin: .25em 0}
.ck.ck .ck-head {color: var(--ck-accent)}
.ck.ck .ck-soft {color: var(--ck-soft)}
.ck.ck code, .ck.ck pre {background: var(--ck-code); color: inherit; border-radius: 3px; font-size: .93em}
.ck.ck code, .ck.ck pre {font-family: var(--jp-code-font-family, ui-monospace, monospace)}
.ck.ck code {padding: .1em .3em; overflow-wrap: anywhere}
.ck.ck pre {padding: .5em .7em; margin: .4em 0; overflow-x: auto; line-height: 1.45}
.ck.ck pre {white-space: pre; word-break: normal; font-size: .88em}
.ck.ck table {border-collapse: collapse; margin: .4em 0; font-size: 1em; color: inherit; background: none}
.ck.ck tr {background: none !important}
.ck.ck th, .ck.ck td {text-align: left; vertical-align: top; padding: .15em 1.2em .15em 0; border: 0}
.ck.ck th, .ck.ck td {background: none; color: inherit; white-space: normal; font-weight: 400}
.ck.ck th, .ck.ck td {max-width: none}
.ck.ck th {font-weight: 600}
.ck.ck thead th {color: var(--ck-soft)}
.ck.ck ul {margin: .25em 0; padding-left: 1.6em}
.ck.ck .k {color: var(--ck-note)}
.ck.ck .s {color: var(--ck-pass)}
.ck.ck .m {color: var(--ck-todo)}
.ck.ck .n {color: var(--ck-fail)}
.ck.ck .c {color: var(--ck-soft); font-style: italic}
"""


def _variables(palette: dict[str, str]) -> str:
    return "{" + "".join(f"--ck-{name}:{colour};" for name, colour in palette.items()) + "}"


def _one_line(css: str) -> str:
    return "".join(line.replace(": ", ":").replace("; ", ";").replace(" {", "{") for line in css.split("\n"))


STYLE = _one_line(
    THEMES.replace("{LIGHT}", _variables(PALETTES["light"])).replace("{DARK}", _variables(PALETTES["dark"]))
    + RULES
)
