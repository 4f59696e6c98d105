"""What each word after `course.py` does: set up what it needs, then hand over to the program that does it."""

import argparse
import os
import re
import subprocess
import sys

from course_setup import environment as env
from course_setup import newest, tools, torch_build, work
from course_setup.common import ROOT, Missing, call, say

TOOLS = {"node": tools.have_node, "browser": tools.have_browser}

# commands of `coursekit` that are handed on: what of the lock they need
COURSEKIT = {
    "plan": env.LAB,
    "doctor": env.LAB,
    "run": env.PUBLISH,
    "check": env.PUBLISH,
    "claims": env.PUBLISH,
    "build": env.PUBLISH,
    "slides": env.PUBLISH,
}
NEED_NODE = ("build", "slides")

DESCRIPTION = """\
Set the course up and run it. The first call of a task installs what it needs.

  lab       open the course in JupyterLab, on copies of your own in work/
  test      run every test and every notebook
  setup     set up what `lab` needs, start nothing
  {commands}
            the same as the command `coursekit`; `course.py plan --help` explains one

Exit status: 0 done, 1 what was run failed, 2 something is missing that was asked for, 130 stopped by Ctrl-C."""


def main(arguments):
    parser = make_parser()
    try:
        if arguments and arguments[0] in COURSEKIT:
            return coursekit(arguments[0], *split_build(arguments[1:]))
        options, rest = parser.parse_known_args(arguments)
        return TASKS[options.task](options, rest)
    except Missing as problem:
        print(f"\n{problem}\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130


def make_parser():
    parser = argparse.ArgumentParser(
        prog="course.py",
        description=DESCRIPTION.format(commands=", ".join(COURSEKIT)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "task", choices=[*TASKS, *COURSEKIT], metavar="task"
    )  # COURSEKIT: for its error message
    build = parser.add_mutually_exclusive_group()
    build.add_argument(
        "--cpu", dest="build", action="store_const", const="cpu", help="Linux: torch's small CPU build"
    )
    build.add_argument(
        "--cuda", dest="build", action="store_const", const="cuda", help="Linux: torch's CUDA build"
    )
    parser.set_defaults(build="auto")
    tool_names = {"default": [], "type": names_of_tools, "metavar": "node,browser"}
    parser.add_argument("--need", **tool_names, help="test: fail where one of these cannot be had")
    parser.add_argument(
        "--without", **tool_names, help="test: leave out what needs these, and do not fetch them"
    )
    parser.add_argument(
        "--newest",
        action="store_true",
        help="test: a part of the tests with the newest versions of everything",
    )
    return parser


def names_of_tools(text):
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not among {', '.join(TOOLS)}")
    return names


def split_build(arguments):
    """The choice of torch's build, and what is left for coursekit, whose options are its own matter."""
    build = next((word[2:] for word in arguments if word in ("--cpu", "--cuda")), "auto")
    return build, [word for word in arguments if word not in ("--cpu", "--cuda")]


# ---------------------------------------------------------------- the tasks


def setup(options, rest):
    env.set_up(env.Environment(ROOT), env.LAB, options.build)
    say("The course is set up: make lab (or python course.py lab) opens it")
    return 0


def lab(options, rest):
    environment = env.Environment(ROOT)
    env.set_up(environment, env.LAB, options.build)
    work.tell_of_newer(work.refresh(ROOT))
    work.trust(environment, environment.path("trusted"))
    return hand_over([environment.python, "-m", "jupyterlab", *lab_options(), *rest])


def lab_options():
    """Open the student's copy of the Start page; Jupyter asks nothing about its news and looks for no update.

    news_url alone does not help: the page asks all the same, unless the setting that it asks for has an answer.
    """
    settings = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jupyterlab")
    options = [
        "--LabApp.default_url=/lab/tree/work/notebooks/00_start.ipynb",
        f"--LabApp.app_settings_dir={settings}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    return options + (["--allow-root"] if tools.is_root() else [])


def coursekit(command, build, rest):
    environment = env.Environment(ROOT)
    env.set_up(environment, COURSEKIT[command], build)
    if command in NEED_NODE:
        trouble = tools.have_node(environment)
        if trouble:
            say(f"Slides cannot be built: {trouble}")
    return hand_over([environment.python, "-m", "coursekit.cli", command, *rest])


def hand_over(command):
    """Become `command`, so that signals reach it; Windows has no such call, there it is waited for."""
    if os.name == "nt":
        return call(command)
    os.chdir(ROOT)
    sys.stdout.flush()
    return os.execv(command[0], command)


# ---------------------------------------------------------------- the tests


def test(options, rest):
    if options.newest:
        return newest.run(ROOT, options.build, rest)
    environment = env.Environment(ROOT)
    env.set_up(environment, env.TEST, options.build)
    missing = missing_tools(environment, options.without)
    refuse_what_is_needed(missing, options.need)
    status = run_tests(environment, [*missing, *options.without], rest)
    if torch_build.nvidia_is_here() and status == 0:
        say("A GPU is here: the GPU tests")
        status = call([environment.python, "-m", "pytest", "-m", "gpu", *rest])
    tell_of_peak()
    if missing:
        tell_what_did_not_run(environment, missing)
    return status


def missing_tools(environment, without):
    """{tool: what is missing and how to get it}, after everything was tried; those left out are not asked for."""
    found = {name: have(environment) for name, have in TOOLS.items() if name not in without}
    return {name: trouble for name, trouble in found.items() if trouble}


def refuse_what_is_needed(missing, needed):
    lacking = [trouble for name, trouble in missing.items() if name in needed]
    if lacking:
        raise Missing("The tests need what could not be had:\n  " + "\n  ".join(lacking))


def run_tests(environment, left_out, rest):
    markers = " and ".join("not " + name for name in ["gpu", *left_out])
    command = [
        environment.python,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "--max-worker-restart=0",  # a process of the tests that dies is the end: xdist would wait for it for ever
        "--durations=20",
        "-m",
        markers,
    ]
    return call([*command, *rest])


def tell_what_did_not_run(environment, missing):
    """The last line of a test run that had to leave something out."""
    what = " and ".join(
        {"node": "slides", "browser": "widgets and slides in a browser"}[name] for name in missing
    )
    reasons, remedies = zip(*(trouble.split(": ", 1) for trouble in missing.values()), strict=True)
    count = count_tests(environment, missing)
    print(f"\nNOT RUN: {count} tests of {what} ({', '.join(reasons)}): {'; '.join(remedies)}", flush=True)


def count_tests(environment, markers):
    command = [environment.python, "-m", "pytest", "--collect-only", "-q", "-m", " or ".join(markers)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace")
    found = re.search(r"(\d+)(?:/\d+)? tests? collected", listed.stdout)
    return found.group(1) if found else "all"


def tell_of_peak():
    """The memory of the largest process that the tests started, where the system counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    say(f"The largest process of the tests took {peak / 10**9:.1f} GB of memory")


TASKS = {"lab": lab, "test": test, "setup": setup}
