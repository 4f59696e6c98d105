"""Read a user's own pairs of prompt and response, one JSON object per line.

    {"prompt": "Who found the key?", "response": "The young knight."}

Left out: conversations of several turns.
"""

from __future__ import annotations

import json
from pathlib import Path

from classroom.models.task import Pair

FIELDS = ("prompt", "response")


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a JSONL file; empty lines are skipped, further fields ignored.

    Raises ValueError that names the line and what is wrong there: not UTF-8, not JSON, not an object, a field that is
    missing, empty or not text; or names the file if it holds no pair at all. FileNotFoundError as open().
    """
    pairs = [
        _pair(line, f"{path}, line {number}")
        for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1)
        if line.strip()
    ]
    if not pairs:
        raise ValueError(
            f"{path} holds no pair. Write one JSON object per line, with the fields {' and '.join(FIELDS)}."
        )
    return pairs


def _pair(line: bytes, place: str) -> Pair:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place}: not JSON ({error.msg} at column {error.colno}). Write one object per line."
        ) from error
    except RecursionError:
        raise ValueError(
            f"{place}: its brackets are nested too deeply. Write one flat object per line."
        ) from None
    except ValueError as error:  # Python refuses to read an integer of more than 4,300 digits
        raise ValueError(f"{place}: a number of thousands of digits. Write text, in quotes.") from error
    if not isinstance(record, dict):
        raise ValueError(
            f"{place}: expected an object with {' and '.join(FIELDS)}, got {type(record).__name__}."
        )
    for field in FIELDS:
        _check_field(record, field, place)
    return Pair(record["prompt"], record["response"])


def _check_field(record: dict, field: str, place: str) -> None:
    if field not in record:
        raise ValueError(f"{place}: the field {field!r} is missing; there are {', '.join(record) or 'none'}.")
    if not isinstance(record[field], str):
        raise ValueError(f"{place}: {field!r} must be text in quotes, got {type(record[field]).__name__}.")
    if not record[field].strip():
        raise ValueError(f"{place}: {field!r} is empty. Fill it in or delete the line.")
    try:
        record[field].encode()
    except UnicodeEncodeError as error:  # JSON can spell what no text file can hold
        raise ValueError(
            f"{place}: {field!r} has half of a character at {error.start + 1}. Write it whole."
        ) from error
