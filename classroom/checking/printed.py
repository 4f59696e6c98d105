"""Keep the beginning of what a student's function prints while it is checked, and drop the rest."""

from __future__ import annotations

import io
from contextlib import contextmanager, redirect_stderr, redirect_stdout

KEPT_CHARACTERS = 2000


class Printed(io.TextIOBase):
    """A file that keeps the first 2,000 characters since `restart()`, and counts the rest."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Forget what was printed: the next call begins."""
        self.kept, self.left_out = "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        part = text[: KEPT_CHARACTERS - len(self.kept)]
        self.kept += part
        self.left_out += len(text) - len(part)
        return len(text)

    def words(self) -> str:
        """Return what was kept, with a line on what was not."""
        more = f"\n... {self.left_out:,} more characters" if self.left_out else ""
        return self.kept.rstrip() + more

    @contextmanager
    def instead_of_the_notebook(self):
        """Inside, print() writes here."""
        with redirect_stdout(self), redirect_stderr(self):
            yield self
