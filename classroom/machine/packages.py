"""The packages of the course: what each is for, which releases will do, and do the installed ones fit each other?

Bare Python: versions come from the metadata that pip leaves, nothing is imported (`trial` does that).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from classroom.machine import host as machine

#            package, what the course uses it for: what the lectures need, from the Start page on
NEEDED = {"torch": "tensors and training",
          "numpy": "arrays",
          "transformers": "the language model",
          "tokenizers": "its tokens",
          "safetensors": "its weights",
          "accelerate": "loading it",
          "peft": "adapters, on the Start page",
          "bitsandbytes": "4-bit weights, on the Start page",
          "ml_dtypes": "the small formats of other libraries, to compare with",
          "matplotlib": "figures",
          "ipywidgets": "interactive explorers",
          "anywidget": "interactive explorers",
          "ipykernel": "running notebooks",
          "psutil": "how much memory is free",
          "click": "the `coursekit` command",
          "rich": "tables of the `coursekit` command",
          "tqdm": "progress bars"}  # fmt: skip

# what a student does not need, and what it is for
FOR_OTHERS = {"jupyterlab": "the notebooks in a browser; any other notebook program will do too",
              "jupytext": "for authors: building notebooks",
              "nbgrader": "for teachers: grading"}  # fmt: skip

# not the lectures', but in the way of their packages where they are too old or built for another torch: peft refuses
# Colab's torchao, transformers fails with a torchvision that fails
NEIGHBOURS = ("torchvision", "torchaudio", "torchao")

# these import a neighbour where there is one, and fail with it
LEAN_ON_NEIGHBOURS = ("transformers", "peft", "accelerate")

# tried in a Python of their own, because they are compiled or import what is
TRIED = (
    "torch",
    "torchvision",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
    "transformers",
    "accelerate",
    "peft",
)

INTEL_MAC = (
    "torch has no release for Macs with an Intel processor since 2.2.2, bitsandbytes none at all, and the course needs "
    "both. On such a Mac take Colab, or Linux in a container."
)
TRANSLATED = (
    "This Python is a build for Intel processors, on a Mac with an Apple chip. Install the build for Apple silicon "
    "(arm64, python.org's installer has both), then set the course up again with it."
)


@dataclass(frozen=True)
class Package:
    """`oldest` is the lower bound of pyproject.toml, `tested` the version of constraints.txt, None where unknown."""

    name: str
    use: str
    needed: bool
    installed: str | None
    oldest: str | None = None
    tested: str | None = None

    @property
    def too_old(self) -> bool:
        return bool(self.installed and self.oldest and _is_older(self.installed, self.oldest))

    @property
    def tested_here(self) -> bool:
        """Whether exactly this release was tested (or nothing is known of what was)."""
        return not (self.installed and self.tested) or _public(self.installed) == self.tested


def read_packages() -> tuple[Package, ...]:
    """What is installed, beside what the course asks for."""
    oldest, tested = lower_bounds(), lock()
    uses = [(NEEDED, True), (FOR_OTHERS, False)]
    return tuple(
        Package(name, use, needed, machine.version(name), oldest.get(_key(name)), tested.get(_key(name)))
        for table, needed in uses
        for name, use in table.items()
    )


def lower_bounds() -> dict[str, str]:
    """{package: oldest release the course works with}, from the installed course itself; {} if it is not installed."""
    return {
        _key(requirement.name): specifier.version
        for requirement in _requirements("coursekit")
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }


def lock() -> dict[str, str]:
    """Return {package: tested version} from constraints.txt of the clone around this code or folder; {} if none."""
    folders = [Path(__file__).parents[2], Path.cwd(), *Path.cwd().parents]
    found = [folder / "constraints.txt" for folder in folders if (folder / "course.py").is_file()]
    for path in found:
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            pairs = [line.split(";")[0].split("==") for line in lines if "==" in line and line[0] != "#"]
            return {_key(name): version.split()[0] for name, version in pairs}
    return {}


def _key(name: str) -> str:
    """One spelling of a package's name: pip takes ml_dtypes for ml-dtypes."""
    return name.strip().lower().replace("_", "-")


def _public(version: str) -> str:
    """2.13.0 of 2.13.0+cpu."""
    return version.partition("+")[0]


def _is_older(installed: str, oldest: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(installed) < Version(oldest)
    except InvalidVersion:  # a build with a name of its own is trusted
        return False


# ---------------------------------------------------------------- what is wrong, in sentences


def missing(package: Package) -> str:
    """The sentence on a package that is not installed."""
    words = f"`{package.name}` is not installed ({package.use})."
    return f"{words} {remedy(package)}"


def outdated(package: Package) -> str:
    """The sentence on a package that is older than the course can work with."""
    return (
        f"`{package.name}` {package.installed} is too old: the course needs {package.oldest} or later ({package.use}). "
        f"{remedy(package)}"
    )


def broken(package: Package, why: str) -> str:
    """The sentence on a package that is installed and does not work."""
    words = f"`{package.name}` {package.installed} is installed but cannot be used: {why}."
    named = [name for name in NEIGHBOURS if name in why]
    if named:
        return f"{words} {_way_out(named[0])}."
    if package.name == "bitsandbytes":
        other = f"Its build may be for another torch or CUDA than this torch {machine.version('torch')}"
        return f"{words} {other}: `{pip()} --upgrade bitsandbytes`."
    return f"{words} Install it again: `{pip()} --force-reinstall --no-deps {wanted(package)}`."


def broken_neighbour(name: str, why: str) -> str:
    """The sentence on a package that the course does not need, and that transformers imports where it is there."""
    return (
        f"`{name}` {machine.version(name)} cannot be loaded beside torch {machine.version('torch')}: {why}. "
        f"{_way_out(name)}."
    )


def remedy(package: Package) -> str:
    if package.name in ("torch", "bitsandbytes") and machine.is_intel_mac():
        return TRANSLATED if machine.is_translated() else INTEL_MAC
    restart = ", then restart the session (Runtime menu)" if machine.in_colab() and package.installed else ""
    return f"Needed: `{pip()} {wanted(package)}`{restart}."


def wanted(package: Package) -> str:
    """What to ask pip for: the tested release, else one that is new enough. Quoted, because shells redirect at >."""
    if package.tested and not machine.in_colab():
        return f"{package.name}=={package.tested}"
    return f'"{package.name}>={package.oldest}"' if package.oldest else package.name


def pip() -> str:
    """The command that installs into this very Python, as it is written here: in a cell of Colab, or in a terminal."""
    if machine.in_colab():
        return "%pip install"
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install"


def untested(packages) -> str | None:
    """One remark on all releases that are others than those tested; None if there are none."""
    others = [p for p in packages if p.needed and not p.too_old and not p.tested_here]
    if not others:
        return None
    listed = ", ".join(f"{p.name} {p.installed} (tested: {p.tested})" for p in others)
    return f"Installed are other releases than those the course was tested with: {listed}. Most often that is fine."


def misfits() -> list[tuple[str, str]]:
    """(name, sentence) of each installed package that asks for another release of one it is installed beside."""
    asked = [(name, requirement) for name in (*NEIGHBOURS, *NEEDED) for requirement in _requirements(name)]
    return [(name, sentence) for name, requirement in asked for sentence in _misfit(name, requirement)]


def _requirements(name: str) -> list:
    """What an installed package asks for; [] if it is not installed, or tells it in a way that cannot be read."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return []
    try:
        return [Requirement(text) for text in metadata.requires(name) or ()]
    except (metadata.PackageNotFoundError, InvalidRequirement):
        return []


def _misfit(name: str, asked) -> list[str]:
    found = machine.version(asked.name)
    belongs_to_an_extra = asked.marker is not None and not asked.marker.evaluate({"extra": ""})
    if found is None or belongs_to_an_extra or asked.specifier.contains(found, prereleases=True):
        return []
    way_out = _way_out(name) if name in NEIGHBOURS else f"Remedy: `{pip()} --upgrade {name} {asked.name}`"
    return [
        f"`{name}` {machine.version(name)} asks for {asked.name} {asked.specifier}, and {asked.name} {found} is "
        f"installed. {way_out}."
    ]


def _way_out(name: str) -> str:
    uninstall = pip().replace("install", "uninstall -y")
    return f"The course does not need {name}: `{uninstall} {name}`, or install a release that fits"
