"""Files written whole or not at all: a full disk, an error or an interrupt leaves what was there."""

import errno

import pytest

from coursekit.models import files


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def earlier(tmp_path):
    folder = tmp_path / "assistant"
    folder.mkdir()
    (folder / "weights").write_text("old")
    (folder / "notes").write_text("mine")
    return folder


def test_new_files_take_their_places_and_others_stay(earlier):
    with files.whole(earlier) as draft:
        (draft / "weights").write_text("new")
        assert contents(earlier)["weights"] == "old"
    assert contents(earlier) == {"weights": "new", "notes": "mine"}
    assert [path.name for path in earlier.parent.iterdir()] == ["assistant"]


def test_a_folder_that_is_not_there_is_made(tmp_path):
    with files.whole(tmp_path / "a" / "b") as draft:
        (draft / "weights").write_text("new")
    assert contents(tmp_path / "a" / "b") == {"weights": "new"}


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, ValueError("bad")])
def test_trouble_in_the_block_leaves_what_was_there(earlier, trouble):
    with pytest.raises((KeyboardInterrupt, ValueError)), files.whole(earlier) as draft:
        (draft / "weights").write_text("half")
        raise trouble
    assert contents(earlier) == {"weights": "old", "notes": "mine"}
    assert [path.name for path in earlier.parent.iterdir()] == ["assistant"]


def test_a_full_disk_is_told_and_nothing_is_lost(earlier, monkeypatch):
    """Some systems report only at the end that it did not fit."""

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    words = r"No space left on device.*Nothing was overwritten"
    with pytest.raises(files.SaveError, match=words), files.whole(earlier) as draft:
        (draft / "weights").write_text("new")
    assert contents(earlier) == {"weights": "old", "notes": "mine"}
