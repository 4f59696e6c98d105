"""One report on this machine: what it has, which formats are fast, what is missing and the remedy.

    from coursekit.classroom.doctor import doctor
    doctor()

Never fails because a package or a tool is missing: naming what is missing is its work.
"""

from __future__ import annotations

from dataclasses import dataclass

from coursekit.classroom import machine, speed
from coursekit.classroom.card import Card, Items, Paragraph, Table

GIB = 2**30

#            package, what the course uses it for, is it needed
PACKAGES = (("torch", "tensors and training", True),
            ("numpy", "arrays", True),
            ("ml_dtypes", "the small formats of other libraries, to compare with", True),
            ("matplotlib", "figures", True),
            ("ipywidgets", "interactive explorers", True),
            ("anywidget", "interactive explorers", True),
            ("jupyterlab", "the notebooks in a browser; any other notebook program will do too", False),
            ("jupytext", "`coursekit build`", False),
            ("nbgrader", "for teachers: releasing and grading exercises", False),
            ("bitsandbytes", "only to compare 4-bit and 8-bit formats with it", False))  # fmt: skip

#         tool, what it disables when missing, remedy
TOOLS = (("node", "slides cannot be built", "install Node.js (nodejs.org, or `apt install nodejs npm`)"),
         ("chromium", "no PDF of slides, no tests of widgets", "install it, or name yours in `CHROME_PATH`"),
         ("make", "no short commands", "none needed: `python course.py lab` does the same"))  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What doctor() found; `str(report)` is the text, a notebook shows the card."""

    machine: machine.Machine
    versions: tuple[tuple[str, str | None], ...]
    gpu: speed.Gpu | None
    speeds: tuple[speed.Speed, ...]
    tools: tuple[tuple[str, str | None], ...]
    offline_variables: tuple[str, ...]
    hub_reachable: bool
    problems: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Everything a student needs is there."""
        return all(
            found for (_, found), (_, _, needed) in zip(self.versions, PACKAGES, strict=True) if needed
        )

    def card(self) -> Card:
        kind, status = ("pass", "Ready") if self.ready else ("fail", "Not ready")
        title = "this machine runs the course" if self.ready else "something the course needs is missing"
        parts = [Table((*machine_rows(self), *software_rows(self)))]
        if self.speeds:
            parts += [speed_table(self.speeds)]
        if self.problems:
            parts += [Paragraph("What is missing, what that means, and the remedy:"), Items(self.problems)]
        return Card(kind, status, title, tuple(parts))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return self.card()._repr_mimebundle_()

    def __str__(self) -> str:
        return self.card().text()


def doctor(folder: str = ".", network: bool = True) -> Report:
    """Look at this machine; takes about a second once torch is loaded.

    folder: on whose disk to look for space. network: also look up the model hub, half a second at most.
    """
    versions = tuple((name, machine.version(name)) for name, _, _ in PACKAGES)
    torch_error = _torch_error()
    gpu = None if torch_error else speed.find_gpu()
    offline = machine.offline_variables()
    tools = tuple((name, machine.find_tool(name)) for name, _, _ in TOOLS)
    here = machine.read_machine(folder)
    return Report(
        machine=here,
        versions=versions,
        gpu=gpu,
        speeds=() if torch_error else tuple(speed.measure_speeds("cuda" if gpu else "cpu")),
        tools=tools,
        offline_variables=offline,
        hub_reachable=network and not offline and machine.hub_is_reachable(),
        problems=tuple(find_problems(here, versions, tools, torch_error)),
    )


def _torch_error() -> str | None:
    """None if torch can be imported, else why not (not installed, or installed and broken)."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def find_problems(here, versions, tools, torch_error: str | None) -> list[str]:
    """Each missing piece as one sentence: what, what it disables, what to do."""
    problems = []
    for (name, found), (_, use, needed) in zip(versions, PACKAGES, strict=True):
        if found is None:
            problems.append(f"`{name}` is not installed ({use}). {_remedy(name, needed)}")
    if torch_error and dict(versions)["torch"]:
        problems.append(f"`torch` is installed but cannot be loaded: {torch_error}. Install it again.")
    problems += [
        f"`{name}` was not found: {disables}. Remedy: {remedy}."
        for (name, path), (_, disables, remedy) in zip(tools, TOOLS, strict=True)
        if path is None
    ]
    if here.ram_free_bytes is not None and here.ram_free_bytes < 2 * GIB:
        problems.append(f"Only {here.ram_free_bytes / GIB:.1f} GiB of memory are free: close other programs.")
    return problems


def _remedy(name: str, needed: bool) -> str:
    if needed:
        return f"Needed: run `python course.py setup`, or `pip install {name}`."
    return f"Optional: `pip install {name}`."


def machine_rows(report: Report) -> list[tuple[str, str]]:
    here = report.machine
    memory = f"{_gib(here.ram_total_bytes)}, {_gib(here.ram_free_bytes)} free"
    rows = [
        ("System", here.os),
        ("Python", here.python),
        ("Processor", f"{here.cores} core{'s' if here.cores > 1 else ''} for this process"),
        ("Memory", memory if here.ram_total_bytes else "unknown (psutil is not installed)"),
        ("Disk", f"{_gib(here.disk_free_bytes)} free"),
    ]
    gpu = report.gpu
    if gpu is None:
        return [*rows, ("GPU", "none that torch can use: everything runs on the processor, in small sizes")]
    return [
        *rows,
        ("GPU", f"{gpu.name}, {_gib(gpu.memory_bytes)}, compute capability {gpu.compute_capability}"),
    ]


def software_rows(report: Report) -> list[tuple[str, str]]:
    installed = ", ".join(f"{name} {found}" for name, found in report.versions if found)
    tools = ", ".join(name for name, path in report.tools if path) or "none"
    return [("Packages", installed), ("Tools", tools), ("Network", network_words(report))]


def network_words(report: Report) -> str:
    if report.offline_variables:
        return f"model downloads are off ({', '.join(report.offline_variables)}); the course needs none"
    if report.hub_reachable:
        return "the model hub can be reached; the course does not need it"
    return "the model hub was not reached; the course does not need it"


def speed_table(speeds) -> Table:
    fp32 = speeds[0]
    rows = tuple((s.name, _rate(s), speed.verdict(s, fp32)) for s in speeds)
    return Table(rows, head=("Format", f"{fp32.n} x {fp32.n} matrix product", "here"))


def _rate(found: speed.Speed) -> str:
    if found.seconds is None:
        return "-"
    return f"{found.seconds * 1e3:.3g} ms, {found.gflops:,.3g} GFLOP/s"


def _gib(count: int | None) -> str:
    return "unknown" if count is None else f"{count / GIB:.1f} GiB"
