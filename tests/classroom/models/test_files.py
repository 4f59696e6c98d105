"""Files written whole or not at all: a full disk, an error or an interrupt leaves what was there."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from classroom.models import files


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
    words = r"assistant could not be saved: .*What was there before is unchanged.*save again"
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


SAVER = """if True:
    import sys
    from classroom.models import files
    folder, name = sys.argv[1:]
    for number in range(60):
        with files.whole(folder) as draft:
            for part in ("weights", "config", "notes"):
                (draft / part).write_text(f"{name} {number} " * 2000)
        with files.whole_file(folder + ".pt") as draft:
            draft.write(f"{name} {number} ".encode() * 2000)
"""


def whole_and_of_one(folder, savers):
    """Every file is whole, and all are of one saver's last time."""
    texts = [(folder / part).read_text() for part in ("weights", "config", "notes")]
    said = " ".join(texts[0].split()[:2])
    assert said.split()[0] in savers and texts == [f"{said} " * 2000] * 3
    assert {path.name for path in folder.iterdir()} == {"weights", "config", "notes"}


def test_two_programs_that_save_to_one_folder_lose_nothing(tmp_path):
    """Sixty times each, at the same time: both end well, and what is there is all of one of them."""
    folder, savers = tmp_path / "assistant", ("one", "two", "three")
    running = [subprocess.Popen([sys.executable, "-c", SAVER, folder, name]) for name in savers]
    assert [program.wait(timeout=300) for program in running] == [0, 0, 0]
    whole_and_of_one(folder, savers)
    assert len((tmp_path / "assistant.pt").read_text().split()) == 4000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["assistant", "assistant.pt"]


def test_two_threads_that_save_to_one_folder_lose_nothing(tmp_path):
    def save(name):
        for number in range(20):
            with files.whole(tmp_path / "assistant") as draft:
                for part in ("weights", "config", "notes"):
                    (draft / part).write_text(f"{name} {number} " * 2000)

    savers = ("one", "two", "three", "four")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, savers))
    whole_and_of_one(tmp_path / "assistant", savers)


def test_two_drafts_of_one_folder_are_two(earlier):
    with files.whole(earlier) as first, files.whole(earlier) as second:
        assert first != second
        (first / "weights").write_text("first")
        (second / "weights").write_text("second")
    assert contents(earlier)["weights"] == "first"  # its block ended last


def test_the_folder_one_is_in_and_its_parent_can_be_saved_to(earlier, monkeypatch):
    (earlier / "inner").mkdir()
    for place, here in ((".", earlier), ("..", earlier / "inner"), ("../assistant", earlier)):
        monkeypatch.chdir(here)
        with files.whole(place) as draft:
            (draft / "weights").write_text(place)
        assert (earlier / "weights").read_text() == place
    with (
        pytest.raises(files.SaveError, match="assistant could not be saved"),
        files.whole_file(earlier) as draft,
    ):
        draft.write(b"a file over a folder")
    assert [path.name for path in earlier.parent.iterdir()] == ["assistant"]


def test_a_lock_that_was_left_behind_does_not_stop_anybody(earlier, monkeypatch):
    """Of a program that was killed between two renamings."""
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    (earlier / files.LOCK).mkdir()
    with files.whole(earlier) as draft:
        (draft / "weights").write_text("new")
    assert contents(earlier) == {"weights": "new", "notes": "mine"}


def test_drafts_that_were_left_behind_go_after_a_day(earlier):
    """Of a program that was killed while it saved; one that still saves is younger."""
    old, young = (earlier.parent / f".assistant.{name}{files.DRAFT}" for name in ("old", "young"))
    for draft in (old, young):
        draft.mkdir()
        (draft / "weights").write_text("half")
    os.utime(old, (time.time() - 2 * files.DAY,) * 2)
    with files.whole(earlier) as draft:
        (draft / "weights").write_text("new")
    assert not old.exists() and young.exists()
