"""A student's copies follow the course until they are changed, and are theirs from then on."""

import json
import os
import re
from pathlib import Path

import pytest

from course_setup import common, work

ROOT = Path(__file__).parents[2]


@pytest.fixture
def course(tmp_path):
    for name in ("notebooks/00_start.ipynb", "notebooks/01_formats.ipynb", "exercises/01_formats.ipynb"):
        path = tmp_path / "a course" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first version of {name}", encoding="utf-8")
    return tmp_path / "a course"


START = "notebooks/00_start.ipynb"


def copy_of(course, name=START):
    return course / "work" / name


def test_missing_copies_are_made(course):
    assert work.refresh(str(course)) == []
    for name in work.originals(str(course)):
        assert copy_of(course, name).read_bytes() == (course / name).read_bytes()
    copy_of(course).unlink()
    work.refresh(str(course))
    assert copy_of(course).exists()


def test_an_unchanged_copy_follows_the_course(course):
    work.refresh(str(course))
    (course / START).write_text("second version", encoding="utf-8")
    assert work.refresh(str(course)) == []
    assert copy_of(course).read_text(encoding="utf-8") == "second version"


def test_a_changed_copy_is_kept_and_a_newer_version_told(course, capsys):
    work.refresh(str(course))
    copy_of(course).write_text("mine", encoding="utf-8")
    assert work.refresh(str(course)) == []  # there is nothing newer yet
    (course / START).write_text("second version", encoding="utf-8")
    for _ in range(2):  # as long as it is so
        newer = work.refresh(str(course))
        assert newer == [START]
        assert copy_of(course).read_text(encoding="utf-8") == "mine"
    work.tell_of_newer(newer)
    message = capsys.readouterr().out
    assert "has a newer version" in message and "rename or delete" in message


def test_the_remedy_that_is_named_works(course):
    work.refresh(str(course))
    copy_of(course).write_text("mine", encoding="utf-8")
    (course / START).write_text("second version", encoding="utf-8")
    copy_of(course).rename(copy_of(course, "notebooks/mine.ipynb"))
    assert work.refresh(str(course)) == []
    assert copy_of(course).read_text(encoding="utf-8") == "second version"


@pytest.mark.parametrize("record", ["", "{", "[]", None])
def test_a_lost_record_loses_nothing(course, record):
    """What differs then counts as the student's."""
    work.refresh(str(course))
    copy_of(course).write_text("mine", encoding="utf-8")
    path = course / "work" / work.RECORD
    if record is None:
        path.unlink()
    else:
        path.write_text(record, encoding="utf-8")
    assert work.refresh(str(course)) == [START]
    assert copy_of(course).read_text(encoding="utf-8") == "mine"


def test_git_ignores_the_copies():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"work/", ".venv/", ".venv-newest/", "node_modules/"} <= set(ignored)


def test_links_between_notebooks_hold_in_the_copies():
    """Every file that a notebook links to is copied too, at the same place beside it."""
    copied = set(work.originals(str(ROOT)))
    for name in copied:
        cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
        text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for link in re.findall(r"\]\(([^)#:]+\.\w+)\)", text):
            assert os.path.normpath(os.path.join(os.path.dirname(name), link)).replace(os.sep, "/") in copied


# ---------------------------------------------------------------- trust


@pytest.fixture
def environment(course, tmp_path):
    from course_setup.environment import Environment

    return Environment(str(course))


def test_only_what_is_new_is_signed(course, environment, calls, tmp_path):
    """Signing takes seconds of each start; a signature is of the content."""
    stamp = str(tmp_path / "trusted")
    work.trust(environment, stamp)
    work.trust(environment, stamp)
    assert len(calls) == 1 and len([word for word in calls[0] if word.endswith(".ipynb")]) == 3
    (course / START).write_text("second version", encoding="utf-8")
    work.trust(environment, stamp)
    assert [os.path.basename(word) for word in calls[1][3:]] == ["00_start.ipynb"]


def test_a_failed_signature_is_tried_again(environment, calls, tmp_path):
    stamp = str(tmp_path / "trusted")
    calls.fails = lambda command: True
    work.trust(environment, stamp)
    calls.fails = lambda command: False
    work.trust(environment, stamp)
    assert len(calls) == 2


def test_another_person_signs_anew(environment, calls, tmp_path, monkeypatch):
    """Signatures lie in the person's own Jupyter folder."""
    stamp = str(tmp_path / "trusted")
    for folder in ("one", "two"):
        monkeypatch.setenv("JUPYTER_DATA_DIR", folder)
        work.trust(environment, stamp)
    assert len(calls) == 2


def test_a_signed_notebook_is_trusted(tmp_path, monkeypatch):
    """The real signer: the copy of a signed original is trusted, a changed one is not."""
    import sys

    import nbformat
    from nbformat.sign import NotebookNotary

    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    path = str(tmp_path / "00_a.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path)
    assert common.call([sys.executable, "-m", "nbformat.sign", path], quiet=True) == 0
    notary = NotebookNotary(data_dir=str(tmp_path / "data"))
    page = nbformat.read(path, as_version=4)
    assert notary.check_signature(page)
    page.cells[0].source = "2"
    assert not notary.check_signature(page)
