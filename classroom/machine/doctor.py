"""One report on this machine: what it has, which formats are fast, what is missing and the remedy.

    from classroom.machine.doctor import doctor
    doctor()

"Ready" is said only where everything that the lectures need is installed, recent enough, and was seen to work. Never
fails because a package or a tool is missing: naming what is missing is its work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from classroom.checking.card import Card, Items, Paragraph, Table
from classroom.machine import gpu, packages, speed, trial
from classroom.machine import host as machine
from coursekit import processor

GIB = 2**30

#         tool, what it is for: authors, teachers and the tests only
TOOLS = (("node", "building slides; `make test` fetches it"),
         ("chromium", "PDF of slides, tests of widgets; `make test` fetches it"),
         ("make", "short commands; `python course.py lab` does the same as `make lab`"))  # fmt: skip

#          level of processor.level(): its name
LEVELS = {"bf16": "AVX-512 with BF16 units",
          "avx512": "AVX-512 without BF16 units",
          "avx2": "AVX2, no BF16 units",
          "arm-bf16": "ARM with BF16 units",
          "arm": "ARM, no BF16 units that torch uses",
          "other": "no AVX2, no BF16 units"}  # fmt: skip


@dataclass(frozen=True)
class Instructions:
    """What torch multiplies and adds with: `level` as in `processor`, `elementwise` in torch's words ("AVX512")."""

    level: str
    bf16_units: bool
    elementwise: str
    limits: tuple[str, ...]

    def words(self) -> str:
        limited = f" (limited by {', '.join(self.limits)})" if self.limits else ""
        return LEVELS[self.level] + limited

    def meaning(self) -> str:
        """One line: what it means for the course."""
        if self.bf16_units:
            return "matrix products run on these units"
        return "the course computes BF16 products in FP32 and rounds them: BF16 saves bytes here, not time"


@dataclass(frozen=True)
class Report:
    """What doctor() found; `str(report)` is the text, a notebook shows the card, `as_dict(report)` is for programs.

    problems  what a student needs and does not have: with one of these the machine is not ready
    remarks   what may be worth knowing
    """

    machine: machine.Machine
    packages: tuple[packages.Package, ...]
    instructions: Instructions | None
    gpu: gpu.Gpu | None
    speeds: tuple[speed.Speed, ...]
    tools: tuple[tuple[str, str | None], ...]
    offline_variables: tuple[str, ...]
    hub_reachable: bool
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Everything a student needs is there."""
        return not self.problems

    def card(self) -> Card:
        kind, status = ("pass", "Ready") if self.ready else ("fail", "Not ready")
        title = "this machine runs the course" if self.ready else "something the course needs is missing"
        parts = [Table((*machine_rows(self), *software_rows(self)))]
        if self.speeds:
            parts += [speed_table(self.speeds)]
        if self.problems:
            parts += [Paragraph("What is missing, what it is for, and the remedy:"), Items(self.problems)]
        if self.remarks:
            parts += [Paragraph("To know:"), Items(self.remarks)]
        return Card(kind, status, title, tuple(parts))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return self.card()._repr_mimebundle_()

    def __str__(self) -> str:
        return self.card().text()


def as_dict(report: Report) -> dict:
    """The report for programs: the fields as plain numbers, strings, lists and dictionaries (json.dumps takes it)."""
    return {"ready": report.ready, **asdict(report), "tools": dict(report.tools)}


def doctor(folder: str = ".", network: bool = True, try_packages: bool = True) -> Report:
    """Look at this machine; takes a few seconds.

    folder        on whose disk to look for space
    network       also look up the model hub, half a second at most
    try_packages  also import the compiled packages in another process, and let them compute: it alone finds those that
                  are installed and do not work
    """
    found = packages.read_packages()
    trials = trial.start(_to_try() if try_packages else ())
    torch_error = _torch_error()
    card = None if torch_error else gpu.find_gpu()
    offline = machine.offline_variables()
    here = machine.read_machine(folder)
    speeds = () if torch_error else _speeds(card)
    tried = trials.results()
    return Report(
        machine=here,
        packages=found,
        instructions=None if torch_error else read_instructions(),
        gpu=card,
        speeds=speeds,
        tools=tuple((name, machine.find_tool(name)) for name, _ in TOOLS),
        offline_variables=offline,
        hub_reachable=network and not offline and machine.hub_is_reachable(),
        problems=tuple(find_problems(found, torch_error, tried)),
        remarks=tuple(find_remarks(here, found, torch_error, tried, card)),
    )


def _to_try() -> tuple[str, ...]:
    return tuple(name for name in packages.TRIED if machine.version(name) is not None)


def _torch_error() -> str | None:
    """None if torch can be imported, else why not (not installed, or installed and broken)."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def _speeds(card: gpu.Gpu | None) -> tuple[speed.Speed, ...]:
    """Measure the speeds; return () if the device cannot compute (the trial says why)."""
    try:
        return tuple(speed.measure_speeds("cuda" if card and card.used else "cpu"))
    except RuntimeError:
        return ()


def read_instructions() -> Instructions:
    """What torch uses of this processor, in this process."""
    import torch

    return Instructions(
        level=processor.level(),
        bf16_units=processor.bf16_units(),
        elementwise=torch.backends.cpu.get_cpu_capability(),
        limits=machine.processor_limits(),
    )


# ---------------------------------------------------------------- what is wrong


def find_problems(found, torch_error: str | None, tried: dict[str, str]) -> list[str]:
    """Each needed piece that is missing, too old or broken, as one sentence: what, what it is for, what to do."""
    blamed = _neighbours_to_blame(tried)
    problems = [packages.broken_neighbour(name, tried[name]) for name in blamed]
    for package in found:
        explained = blamed and package.name in packages.LEAN_ON_NEIGHBOURS
        trouble = _trouble(package, torch_error, tried) if package.needed and not explained else None
        problems += [trouble] if trouble else []
    return problems


def _neighbours_to_blame(tried: dict[str, str]) -> list[str]:
    """The broken neighbours, where transformers is broken too: it imports them, so it is not at fault itself."""
    broken = [name for name in packages.NEIGHBOURS if tried.get(name, trial.OK) != trial.OK]
    return broken if tried.get("transformers", trial.OK) != trial.OK else []


def _trouble(package, torch_error: str | None, tried: dict[str, str]) -> str | None:
    if package.installed is None:
        return packages.missing(package)
    if package.too_old:
        return packages.outdated(package)
    result = tried.get(package.name, trial.OK)
    if package.name == "torch" and torch_error:
        result = torch_error
    return None if result == trial.OK else packages.broken(package, result)


def find_remarks(here, found, torch_error: str | None, tried: dict[str, str], card) -> list[str]:
    """What may be worth knowing, one sentence each; none of it keeps the course from running."""
    remarks = [] if torch_error or (card and card.used) else [gpu.unused_card()]
    blamed = _neighbours_to_blame(tried)
    remarks += [sentence for name, sentence in packages.misfits() if name not in blamed]
    remarks += [packages.untested(found), _little_memory(here)]
    return [remark for remark in remarks if remark]


def _little_memory(here) -> str | None:
    if here.ram_free_bytes is None or here.ram_free_bytes >= 2 * GIB:
        return None
    return f"Only {here.ram_free_bytes / GIB:.1f} GiB of memory are free: close other programs."


# ---------------------------------------------------------------- rows of the card


def machine_rows(report: Report) -> list[tuple[str, str]]:
    here = report.machine
    memory = f"{_gib(here.ram_total_bytes)}, {_gib(here.ram_free_bytes)} free"
    cores = f"{here.cores} core{'s' if here.cores > 1 else ''} for this process"
    rows = [
        ("System", here.os),
        ("Python", here.python),
        ("Processor", f"{cores}; {report.instructions.words()}" if report.instructions else cores),
        ("Memory", memory if here.ram_total_bytes else "unknown (psutil is not installed)"),
        ("Disk", f"{_gib(here.disk_free_bytes)} free"),
        ("GPU", report.gpu.words() if report.gpu else gpu.NOWHERE),
    ]
    if report.instructions:
        rows.insert(3, ("BF16 on it", report.instructions.meaning()))
    return rows


def software_rows(report: Report) -> list[tuple[str, str]]:
    needed = ", ".join(f"{p.name} {p.installed}" for p in report.packages if p.needed and p.installed)
    return [("Packages", needed), *others_rows(report), ("Network", network_words(report))]


def others_rows(report: Report) -> list[tuple[str, str]]:
    """Tools and packages that students do not need: those that are there, and those that are not."""
    there = [f"{p.name} {p.installed}" for p in report.packages if not p.needed and p.installed]
    there += [name for name, path in report.tools if path]
    absent = [f"{p.name} ({p.use})" for p in report.packages if not p.needed and not p.installed]
    absent += [
        f"{name} ({use})" for (name, path), (_, use) in zip(report.tools, TOOLS, strict=True) if not path
    ]
    rows = [("Also here", ", ".join(there) or "nothing")]
    return [*rows, ("Not installed, not needed", ", ".join(absent))] if absent else rows


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
