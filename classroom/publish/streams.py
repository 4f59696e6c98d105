"""What a cell prints: its pieces joined as a terminal would show them, and never more than 1 MB of it.

nbclient can join them too, in time quadratic in the length of a line: a line of a million characters would
take it an hour. The result here is the same, character for character, in one pass.
"""

from __future__ import annotations

import itertools

CAP_CHARACTERS = 10**6  # of one cell, stdout and stderr together


def after_returns(text: str) -> str:
    """The text with what each carriage return overwrites taken out; one that ends a line stays."""
    return "\n".join(map(_after_returns, text.split("\n")))


def _after_returns(line: str) -> str:
    body, end = (line[:-1], "\r") if line.endswith("\r") else (line, "")
    return body.rpartition("\r")[2] + end


def joined(outputs: list) -> list:
    """One output for all that a cell wrote on stdout, one for stderr, each where its first piece stood.

    Where the two stand side by side stdout comes first: which of them arrives first depends on the clock.
    """
    pieces = {"stdout": [], "stderr": []}
    kept = []
    for output in outputs:
        if output["output_type"] != "stream":
            kept.append(output)
            continue
        if not pieces[output["name"]]:
            kept.append(output)
        pieces[output["name"]].append(output["text"])
    for output in kept:
        if output["output_type"] == "stream":
            output["text"] = after_returns("".join(pieces[output["name"]]))
    return _stdout_first(kept)


def _stdout_first(outputs: list) -> list:
    names = [output.get("name") for output in outputs]
    for i, pair in enumerate(itertools.pairwise(names)):
        if pair == ("stderr", "stdout"):
            outputs[i], outputs[i + 1] = outputs[i + 1], outputs[i]
            break
    return outputs


class Allowance:
    """What one cell may still print. `take(outputs, text)` is the part of `text` that is kept."""

    def __init__(self):
        self.held = self.left_out = 0

    def take(self, outputs: list, text: str) -> str:
        """`outputs` are the cell's so far; a progress bar's are joined in place when they fill the cap."""
        only_streams = all(output["output_type"] == "stream" for output in outputs)
        if self.held + len(text) > CAP_CHARACTERS and not self.left_out and only_streams:
            outputs[:] = joined(outputs)
            self.held = sum(len(output["text"]) for output in outputs)
        kept = text[: max(0, CAP_CHARACTERS - self.held)]
        self.held += len(kept)
        self.left_out += len(text) - len(kept)
        return kept

    def settle(self, outputs: list) -> list:
        """The cell's outputs joined, with a line on what was left out."""
        outputs = joined(outputs)
        printed = [output for output in outputs if output["output_type"] == "stream"]
        if self.left_out and printed:
            megabytes = self.left_out / 10**6
            printed[0]["text"] += f"\n... {megabytes:,.1f} MB more were printed and left out\n"
        self.left_out = 0
        return outputs
