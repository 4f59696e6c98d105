#!/usr/bin/env python3
"""Set the course up and run it: `python course.py lab`, `python course.py run`, `python course.py test`.

Needs nothing but Python; the Makefile calls this file, so that Windows, macOS and Linux do the same. It makes a
virtual environment in `.venv`, installs what the task needs with the versions of the lock, and starts the task. A
stamp remembers what was installed: the second call takes no time. How it is done is in `course_setup/`.

This file must be readable by old Pythons (3.6), because its first duty is to tell them so.
"""

import shutil
import sys

OLDEST, NEWEST = (3, 11), (3, 13)


def wrong_python(version):
    """What to do about a Python that the course cannot use; None if it can."""
    if OLDEST <= version[:2] <= NEWEST:
        return None
    wanted = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    found = [name for name in wanted if shutil.which(name)]
    remedy = "Install Python 3.11, 3.12 or 3.13 (python.org, or your system's packages), then run this again."
    if found:
        remedy = "There is a {0} on this machine: run  {0} course.py lab  (or  make lab PYTHON={0}).".format(
            found[0]
        )
    return (
        f"The course needs Python 3.11 to 3.13; this is Python {version[0]}.{version[1]}.\n{remedy}\n"
        "Without it you can still read the notebooks: they are committed with their results."
    )


def main(arguments=None):
    problem = wrong_python(sys.version_info)
    if problem:
        print("\n" + problem + "\n", file=sys.stderr)
        return 2
    from course_setup import tasks

    return tasks.main(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
