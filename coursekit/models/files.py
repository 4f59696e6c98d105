"""Files that are written whole or not at all.

    with whole("my-assistant") as draft:
        model.save_pretrained(draft)

A disk that is full in the middle, an error or an interrupt leaves what was there before as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GB = 10**9


class SaveError(Exception):
    """It could not be saved; the message says why, what is still there, and what to do."""


@contextmanager
def whole(folder: str | Path) -> Iterator[Path]:
    """A draft folder; when the block has ended well, its files take their places in `folder`.

    The draft lies beside the folder, on the same disk, so putting a file in its place is a renaming and needs no room.
    Files of the folder that the draft does not have stay. The draft is gone afterwards, whatever happened.

    Raises SaveError if the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with explained(folder):
            draft.mkdir(parents=True)
            yield draft
            put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    files = sorted(draft.iterdir())
    for file in files:  # all of them are on the disk before the first old one goes
        sync(file)
    folder.mkdir(exist_ok=True)
    for file in files:
        os.replace(file, folder / file.name)


def sync(file: Path) -> None:
    """Wait until the file is on the disk: some systems report only then that it did not fit."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turns what libraries raise when they cannot write into a SaveError about `target`."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise SaveError(reason(target, error)) from error


def reason(target: Path, error: Exception) -> str:
    return (
        f"{target.name} could not be saved: {getattr(error, 'strerror', None) or error}. {free_words(target)}"
        "Nothing was overwritten, and the model is still in memory: make room or name another place, then save again."
    )


def free_words(target: Path) -> str:
    near = next(path for path in target.absolute().parents if path.exists())
    return f"{shutil.disk_usage(near).free / GB:.2f} GB are free there. "
