import pytest

from classroom.publish.stamps import Stamps, inputs_digest, reached_files


@pytest.fixture
def root(tmp_path):
    """A package in which `lesson.py` reaches a, through it b, and not c."""
    files = {
        "lesson.py": "%matplotlib inline\nfrom coursekit.pack import a\n!ls\nimport numpy\n",
        "coursekit/__init__.py": "",
        "coursekit/pack/__init__.py": "",
        "coursekit/pack/a.py": "def f():\n    from coursekit.other.b import g\n    return g\n",
        "coursekit/other/__init__.py": "",
        "coursekit/other/b.py": "import coursekit.pack.a\ng = 1\n",
        "coursekit/other/b.js": "1",
        "coursekit/third/__init__.py": "",
        "coursekit/third/c.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_files_reached_by_imports_and_their_data(root):
    names = [path.relative_to(root).as_posix() for path in reached_files(root / "lesson.py", root)]
    assert [name for name in names if not name.endswith("__init__.py")] == [
        "coursekit/other/b.js",
        "coursekit/other/b.py",
        "coursekit/pack/a.py",
    ]


@pytest.mark.parametrize(
    "name, changes",
    [
        ("lesson.py", True),
        ("coursekit/other/b.py", True),
        ("coursekit/other/b.js", True),
        ("coursekit/third/c.py", False),
    ],
)
def test_the_digest_follows_what_is_reached(root, name, changes):
    before = inputs_digest(root / "lesson.py", root)
    with (root / name).open("a") as file:
        file.write("\n# more\n")
    assert (inputs_digest(root / "lesson.py", root) != before) is changes


def test_a_stamp_vouches_for_these_inputs_and_this_content(root):
    built, stamps = root / "lesson.ipynb", Stamps(root)
    assert not stamps.fresh(built, "inputs")
    built.write_text("one")
    stamps.record(built, "inputs")
    assert Stamps(root).fresh(built, "inputs") and not stamps.fresh(built, "other inputs")
    built.write_text("edited by hand")
    assert not stamps.fresh(built, "inputs")


def test_a_broken_stamp_file_vouches_for_nothing(root):
    stamps, built = Stamps(root), root / "lesson.py"
    stamps.record(built, "inputs")
    stamps.path.write_text("{")
    assert not stamps.fresh(built, "inputs")
