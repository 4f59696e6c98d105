"""Every deck is built once for all tests and all processes; a small one is there to break."""

from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from classroom.publish.marp import run_marp
from classroom.publish.slides import FORMATS, build, deck_paths
from classroom.publish.sources import find_root

DECKS = [path.stem for path in deck_paths()]
IN_EVERY_FORMAT = DECKS[0]  # the others as HTML only: PDF and PowerPoint take minutes

SMALL = """\
---
marp: true
theme: coursekit
lang: en
math: mathjax
paginate: true
title: A small deck
minutes: 3
---

<!-- _class: title -->

# A small deck

Two slides

<!--
**Know** Everything is made for a test.

**Say** Hello.

TIME 1 min
-->

---

```python
answer = 6 * 7
```

# The answer is {{ answer }}

```python
from IPython.display import Markdown
Markdown(f"Shown by a cell: **{answer}**, {{ answer }} stays")
```

<!-- _footer: "Computed: here" -->

<!--
**Know** It is {{ answer }}.

**Say** Six times seven.

**Ask** What is it? *Answer:* {{ answer }}. *Wrong answer:* "more".

TIME 2 min
-->
"""


@pytest.fixture
def small(tmp_path):
    """Return the path of a small deck that keeps every rule."""
    path = tmp_path / "01_small.md"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory, worker_id):
    """Return a folder with each deck as HTML and Markdown, its slides in a column, and one deck in every format.

    Processes of the tests that come here at the same time share the decks out among themselves.
    """
    shared = tmp_path_factory.getbasetemp()
    out = (shared if worker_id == "master" else shared.parent) / "decks"
    out.mkdir(exist_ok=True)
    for patience in (0, -1):  # first those that no process has begun, then wait for the others
        for name in DECKS:
            with suppress(Timeout), FileLock(out / f"{name}.lock", timeout=patience):
                build_once(name, out)
    return out


def build_once(name: str, out: Path) -> None:
    done = out / f"{name}.done"
    if done.exists():
        return
    whole = name == IN_EVERY_FORMAT
    build([name], formats=FORMATS if whole else ("html", "md"), out=out)
    build([name], formats=("html", "md") if whole else ("md",), out=out, student=True)
    run_marp(out / f"{name}-student.md", out / f"{name}-column.html", "bare", root=find_root())
    done.touch()
