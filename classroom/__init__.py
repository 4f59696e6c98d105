"""The front door of a notebook: `from classroom import predict, show, compare`. A module is imported when it is used.

lectures  what belongs to one lecture: exercises, experiments, figures, claims, benchmark
notebook  what a cell calls: predictions, comparisons, sources, live curves
machine   what this machine can do, and what is missing
checking  runs a student's function, judges its answer, and explains in words what went wrong
models    the embedded language model: its corpus, its task, how it is made, loaded and fine-tuned
drawing   one style for all figures, tables for slides
records   rows that a lecture hands in: claims, races of the benchmarks
publish   what authors, teachers and CI run: notebooks, exercises, slides, the claims register, grading
cli       the commands of `coursekit` beside `plan`
"""

from importlib import import_module

FRONT_DOOR = {
    "predict": "classroom.notebook.predict",
    "show": "classroom.drawing.style",
    "compare": "classroom.notebook.show",
    "show_source": "classroom.notebook.show",
    "takeaway": "classroom.notebook.show",
    "budget": "classroom.notebook.show",
    "LossPlot": "classroom.notebook.live",
    "doctor": "classroom.machine.doctor",
    "load": "classroom.models.load",
}


def __getattr__(name: str):
    """Import the module behind a name when the name is first used (PEP 562)."""
    if name not in FRONT_DOOR:
        raise AttributeError(
            f"module 'classroom' has no attribute {name!r}; it hands on {', '.join(FRONT_DOOR)}."
        )
    return getattr(import_module(FRONT_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *FRONT_DOOR])
