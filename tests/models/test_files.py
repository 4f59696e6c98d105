"""Files written whole or not at all: a full disk, an error or an interrupt leaves what was there."""

import errno

import pytest
import torch
from safetensors.torch import save_file

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


WRITERS = {
    "python": lambda draft: (draft / "weights").write_bytes(bytes(300_000)),
    "safetensors": lambda draft: save_file({"w": torch.zeros(75_000)}, draft / "weights"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_write_that_the_system_refuses_leaves_what_was_there(earlier, room, write):
    words = r"assistant could not be saved: .*What was there before is as it was.*save again"
    with room(100_000), pytest.raises(files.SaveError, match=words), files.whole(earlier) as draft:
        write(draft)
    assert contents(earlier) == {"weights": "old", "notes": "mine"}
    assert [path.name for path in earlier.parent.iterdir()] == ["assistant"]


def test_one_file_is_replaced_whole(tmp_path, room):
    file = tmp_path / "checkpoint.pt"
    file.write_text("old")
    with (
        room(100_000),
        pytest.raises(files.SaveError, match=r"checkpoint\.pt"),
        files.whole_file(file) as draft,
    ):
        torch.save(torch.zeros(75_000), draft)
    assert file.read_text() == "old"
    with files.whole_file(file) as draft:
        draft.write(b"new")
        assert file.read_text() == "old"
    assert contents(tmp_path) == {"checkpoint.pt": "new"}


def test_a_full_disk_is_told_in_plain_words(earlier, monkeypatch):
    """Some systems report only at the end that it did not fit."""

    def full(opened):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    words = r"the disk is full, [\d,]+\.\d MB are free"
    with pytest.raises(files.SaveError, match=words), files.whole(earlier) as draft:
        (draft / "weights").write_text("new")
    assert contents(earlier) == {"weights": "old", "notes": "mine"}


def test_a_folder_under_a_file_is_refused_in_words(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(files.SaveError, match="Not a directory"), files.whole(tmp_path / "notes" / "a"):
        pass
