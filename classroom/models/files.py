"""Files that are written whole or not at all.

    with whole("my-assistant") as draft:            # a folder
        model.save_pretrained(draft)
    with whole_file("checkpoint.pt") as draft:      # one file
        torch.save(state, draft)

A disk that is full in the middle, an error or an interrupt leaves what was there before as it was. Two programs that
save to one place at once both end well: each has a draft of its own, and what stays is all of the later one.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

MB = 10**6
DAY = 24 * 3600
DRAFT, LOCK = ".part", ".saving"
PATIENCE = 10.0  # seconds


class SaveError(Exception):
    """It could not be saved; the message says why, what is still there, and what to do."""


@contextmanager
def whole(folder: str | Path) -> Iterator[Path]:
    """A draft folder; when the block has ended well, its files take their places in `folder`.

    The draft lies beside the folder, on the same disk, so putting a file in its place is a renaming and needs no room.
    Files of the folder that the draft does not have stay. The draft is gone afterwards, whatever happened.

    Raises SaveError if the disk is full or the folder cannot be written.
    """
    folder = Path(folder).resolve()  # "." has no name of its own
    with explained(folder), draft_beside(folder) as draft:
        yield draft
        put_in_place(draft, folder)


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """An empty folder of one's own on the disk of `target`; gone when the block ends. Those that a killed program left
    a day ago go too."""
    parent, prefix = target.parent, f".{target.name}."
    if not parent.exists():
        parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{glob.escape(prefix)}*{DRAFT}"):
        with suppress(OSError):  # another program may remove it at the same time
            if time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, suffix=DRAFT, dir=parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    files = sorted(draft.iterdir())
    for file in files:  # all of them are on the disk before the first old one goes
        with file.open("rb+") as opened:
            sync(opened)
    folder.mkdir(exist_ok=True)
    with turn(folder):  # or the files of two programs would be mixed
        for file in files:
            os.replace(file, folder / file.name)


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Programs go through the block one after the other. A lock of a program that was killed is taken over in the end:
    the block is a few renamings, and nobody needs PATIENCE seconds for them."""
    lock = folder / LOCK
    patient_until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.mkdir()  # of many that try, one succeeds, on every system
            break
        except FileExistsError:
            if time.monotonic() > patient_until:
                break
            time.sleep(0.01)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.rmdir()


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to; when the block has ended well, it takes the place of `path`. Raises as whole().

    The one for torch.save, which says of a path only that it found an "unexpected pos".
    """
    path = Path(path).resolve()
    with explained(path), draft_beside(path) as folder:
        draft = folder / "draft"
        with draft.open("wb") as opened:
            yield opened
            sync(opened)
        os.replace(draft, path)


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
