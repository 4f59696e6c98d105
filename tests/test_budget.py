"""What a lecture costs in lines: the table is printed at the end of the tests, and a new lecture keeps its budget.

Lectures 0 to 4 were written before there was a budget; what they have more is listed with its reason, and may not grow.
"""

import re
from pathlib import Path

import jupytext
import pytest

from classroom.lectures import ORDER, stem

ROOT = Path(__file__).parents[1]
LARGEST_COURSEKIT = 11_000  # lines of Python for lectures 0 to 4
COLUMNS = ("subject", "figures", "exercises", "notebook", "cells", "slides", "tests")
BUDGET = dict(zip(COLUMNS, (1200, 250, 500, 600, 70, 25, 1500), strict=True))
SUBJECTS = {
    "memory": ("memory", "optim", "quantization")
}  # lecture 3 has three; elsewhere the word of the lecture
MORE = {  # written before there was a budget; each figure is a ceiling
    # eight exercises with oracles over all codes; a codec for any float, and blocks
    "formats": {"subject": 1500, "figures": 420, "exercises": 770, "notebook": 650, "cells": 100, "slides": 30,
                "tests": 2100},
    # the policy of autocast, operation by operation
    "amp": {"subject": 1210, "exercises": 520, "cells": 75, "tests": 2050},
    # the planner: families of models, operations, optimizers, cards, ways out; and optim, quantization
    "memory": {"subject": 4650, "figures": 340, "exercises": 860, "notebook": 650, "cells": 105, "slides": 30,
               "tests": 5800},
    # twelve subjects in one lecture, eleven exercises
    "throughput": {"subject": 2050, "exercises": 910, "notebook": 910, "cells": 125, "slides": 28, "tests": 2100},
}  # fmt: skip


def lines(*patterns):
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sum(path.read_text(encoding="utf-8").count("\n") for path in files)


def cost(word):
    """The lines of a lecture's parts, the cells of its notebook and the slides of its deck."""
    subjects = SUBJECTS.get(word, (word,))
    source, deck = ROOT / f"notebooks/src/{stem(word)}.py", ROOT / f"slides/{stem(word)}.md"
    lecture = f"classroom/lectures/{word}"
    return {
        "subject": lines(*(f"coursekit/{name}/*.py" for name in subjects)),
        "figures": lines(f"{lecture}/figures.py"),
        "exercises": lines(f"{lecture}/exercises.py"),
        "notebook": lines(f"notebooks/src/{stem(word)}.py"),
        "cells": len(jupytext.read(source, fmt="py:percent").cells),
        "slides": len(re.findall(r"^---$", deck.read_text(encoding="utf-8"), re.M)) - 1
        if deck.exists()
        else 0,
        "tests": lines(*(f"tests/coursekit/{name}/*.py" for name in subjects), f"tests/{lecture}/*.py"),
    }


@pytest.mark.parametrize("word", ORDER)
def test_a_lecture_keeps_its_budget(word, record_property):
    spent = cost(word)
    record_property("budget", {"lecture": word, **spent})
    allowed = {**BUDGET, **MORE.get(word, {})}
    over = {name: f"{spent[name]:,} of {allowed[name]:,}" for name in COLUMNS if spent[name] > allowed[name]}
    assert over == {}, "write less, or give MORE a line and the changelog the reason"


def test_coursekit_stays_small():
    assert lines("coursekit/**/*.py") <= LARGEST_COURSEKIT
