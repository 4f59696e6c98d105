"""The digest covers the code, what it reaches, and nothing else; a stamp vouches for inputs and content."""

import pytest

from classroom.publish.sources import find_root
from classroom.publish.stamps import Stamps, inputs_digest, reached_files


@pytest.fixture
def root(tmp_path):
    """Write a package in which the code reaches a, through it b, and not c."""
    files = {
        "coursekit/__init__.py": "",
        "coursekit/pack/__init__.py": "",
        "coursekit/pack/a.py": "def f():\n    from coursekit.other.b import g\n    return g\n",
        "coursekit/other/__init__.py": "",
        "coursekit/other/b.py": "import coursekit.pack.a\ng = 1\n",
        "coursekit/other/b.js": "1",
        "coursekit/other/data/c.json": "1",
        "coursekit/third/__init__.py": "",
        "coursekit/third/c.py": "",
        "classroom/__init__.py": "",
        "classroom/notebook/predict.py": "",
        "results/speed.md": "1",
        "slides/01_demo.md": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


CODE = """%matplotlib inline
from coursekit.pack import a
from classroom import predict
!ls
import numpy
table = open("../results/speed.md")
"""


def reached(code, root):
    files = reached_files(code, root / "slides", root)
    return [path.relative_to(root).as_posix() for path in files if path.name != "__init__.py"]


def test_files_reached_by_imports_through_the_front_door_or_by_name_and_their_data(root):
    assert reached(CODE, root) == [
        "classroom/notebook/predict.py",
        "coursekit/other/b.js",
        "coursekit/other/b.py",
        "coursekit/other/data/c.json",
        "coursekit/pack/a.py",
        "results/speed.md",
    ]


def test_code_that_cannot_be_parsed_reaches_nothing(root):
    """It cannot run either, and the run says why."""
    assert reached("from coursekit.pack import a\n1 +", root) == []


def test_every_lecture_reaches_the_embedded_model_and_the_results_it_shows():
    course = find_root()
    names = reached((course / "notebooks" / "src" / "00_start.py").read_text(encoding="utf-8"), course)
    assert {"classroom/models/tiny/model.safetensors", "classroom/notebook/predict.py"} <= set(names)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("coursekit/other/b.py", True),
        ("coursekit/other/b.js", True),
        ("results/speed.md", True),
        ("coursekit/third/c.py", False),
    ],
)
def test_the_digest_follows_what_is_reached(root, name, changes):
    before = inputs_digest(CODE, root / "slides", root)
    with (root / name).open("a") as file:
        file.write("\n# more\n")
    assert (inputs_digest(CODE, root / "slides", root) != before) is changes
    assert inputs_digest(CODE + "#", root / "slides", root) != inputs_digest(CODE, root / "slides", root)


def test_a_stamp_vouches_for_these_inputs_and_this_content(root):
    built, stamps = root / "lesson.ipynb", Stamps(root)
    assert not stamps.fresh(built, "inputs")
    built.write_text("one")
    stamps.record(built, "inputs")
    assert Stamps(root).fresh(built, "inputs") and not stamps.fresh(built, "other inputs")
    built.write_text("edited by hand")
    assert not stamps.fresh(built, "inputs")


def test_a_broken_stamp_file_vouches_for_nothing(root):
    stamps, built = Stamps(root), root / "slides" / "01_demo.md"
    stamps.record(built, "inputs")
    stamps.path.write_text("{")
    assert not stamps.fresh(built, "inputs")
