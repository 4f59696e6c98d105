"""Files that are written whole or not at all.

    with whole("my-assistant") as draft:            # a folder
        model.save_pretrained(draft)
    with whole_file("checkpoint.pt") as draft:      # one file
        torch.save(state, draft)

A disk that is full in the middle, an error or an interrupt leaves what was there before as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MB = 10**6


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
    with explained(folder):
        shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
        try:
            draft.mkdir(parents=True)
            yield draft
            put_in_place(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    files = sorted(draft.iterdir())
    for file in files:  # all of them are on the disk before the first old one goes
        with file.open("rb+") as opened:
            sync(opened)
    folder.mkdir(exist_ok=True)
    for file in files:
        os.replace(file, folder / file.name)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to; when the block has ended well, it takes the place of `path`. Raises as whole().

    The one for torch.save, which says of a path only that it found an "unexpected pos".
    """
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    with explained(path):
        try:
            with draft.open("wb") as opened:
                yield opened
                sync(opened)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def sync(opened: BinaryIO) -> None:
    """Wait until the file is on the disk: some systems report only then that it did not fit."""
    opened.flush()
    os.fsync(opened.fileno())


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turns what Python and the libraries raise when they cannot write into a SaveError about `target`."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise SaveError(reason(target, refused)) from error


def refusal(error: BaseException | None) -> BaseException | None:
    """What the system said, which torch hides behind a complaint of its own; None if it is not about writing."""
    from safetensors import SafetensorError

    while error and not isinstance(error, (OSError, SafetensorError)):
        error = error.__context__
    return error


def reason(target: Path, error: BaseException) -> str:
    near = next(path for path in target.absolute().parents if path.exists())
    free = f"{shutil.disk_usage(near).free / MB:,.1f} MB are free"
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = (
        f"the disk is full, {free}" if full else f"{getattr(error, 'strerror', None) or error}, {free} there"
    )
    return (
        f"{target.name} could not be saved: {why}. What was there before is as it was, and the model is still in "
        "memory: make room or name another place, then save again."
    )
