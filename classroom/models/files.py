"""Write files whole or not at all.

    with whole("my-assistant") as draft:            # a folder
        model.save_pretrained(draft)
    with whole_file("checkpoint.pt") as draft:      # one file
        torch.save(state, draft)

If the disk fills up, an error occurs or the program is interrupted, the earlier files stay unchanged. Two programs may
save to one place at once: each writes its own draft, and the later one replaces the earlier one completely.
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
    """Saving failed; the message says why, what is still there, and what to do."""


@contextmanager
def whole(folder: str | Path) -> Iterator[Path]:
    """A draft folder; when the block has ended without an error, its files are moved into `folder`.

    The draft lies beside the folder, on the same disk, so moving a file is a renaming and needs no space. Files of the
    folder that the draft does not have stay. The draft is removed afterwards, also after an error.

    Raises SaveError if the disk is full or the folder cannot be written.
    """
    folder = Path(folder).resolve()  # "." has no name to derive the draft's from
    with explained(folder), draft_beside(folder) as draft:
        yield draft
        put_in_place(draft, folder)


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` for this program alone, removed when the block ends. Drafts that a killed program
    left more than a day ago are removed too."""
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
    for file in files:  # all of them are on the disk before the first old one is replaced
        with file.open("rb+") as opened:
            sync(opened)
    folder.mkdir(exist_ok=True)
    with turn(folder):  # or the files of two programs would be mixed
        for file in files:
            os.replace(file, folder / file.name)


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Programs run the block one after the other. The lock of a program that was killed is taken over after PATIENCE
    seconds: the block is a few renamings, which never take that long."""
    lock = folder / LOCK
    patient_until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.mkdir()  # of several programs that try, exactly one succeeds, on every system
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
    """A file to write to; when the block has ended without an error, it replaces `path`. Raises as whole().

    Use it with torch.save, which reports a full disk only as "unexpected pos" if it gets a path.
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
    """Turn the errors of Python and the libraries about writing into a SaveError about `target`."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise SaveError(reason(target, refused)) from error


def refusal(error: BaseException | None) -> BaseException | None:
    """The system's error, which torch hides behind its own; None if the error is not about writing."""
    from safetensors import SafetensorError

    while error and not isinstance(error, (OSError, SafetensorError)):
        error = error.__context__
    return error


def reason(target: Path, error: BaseException) -> str:
    near = next(path for path in target.absolute().parents if path.exists())
    free = f"{shutil.disk_usage(near).free / MB:,.1f} MB are free"
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    words = getattr(error, "strerror", None) or error
    why = f"the disk is full, {free}" if full else f"{words}, {free} there"
    return (
        f"{target.name} could not be saved: {why}. What was there before is unchanged, and the model is still in "
        "memory: free some space or name another place, then save again."
    )
