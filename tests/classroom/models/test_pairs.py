"""A user's own pairs: every mistake is named with its line."""

import pytest

from classroom.models.pairs import read_pairs
from classroom.models.task import Pair

GOOD = '{"prompt": "p", "response": "r"}'


def test_pairs_are_read(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'\ufeff{GOOD}\n\n{{"prompt": "é", "response": "ü", "note": 1}}\n', encoding="utf-8")
    assert read_pairs(file) == [Pair("p", "r"), Pair("é", "ü")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"prompt": "p"', "line 2: not JSON"),
        (b'["p", "r"]', "line 2: expected an object with prompt and response, got list"),
        (b'{"prompt": "p"}', "line 2: the field 'response' is missing; there are prompt"),
        (b'{"prompt": "p", "response": 3}', "line 2: 'response' must be text in quotes, got int"),
        (b'{"prompt": " ", "response": "r"}', "line 2: 'prompt' is empty"),
        (b'{"prompt": "\xff", "response": "r"}', "line 2: byte 13 is not UTF-8"),
        (b"[" * 100_000, "line 2: its brackets are nested too deeply. Write one flat object per line"),
        (b'{"prompt":' * 100_000, "line 2: its brackets are nested too deeply"),
        (
            b'{"prompt": ' + b"9" * 5000 + b"}",
            "line 2: a number of thousands of digits. Write text, in quotes",
        ),
        (b'{"prompt": "ab\\ud83d", "response": "r"}', "line 2: 'prompt' has half of a character at 3"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, complaint):
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(GOOD.encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError) as error:
        read_pairs(file)
    assert complaint in str(error.value)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_pairs_is_refused(tmp_path, content):
    file = tmp_path / "pairs.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match="holds no pair"):
        read_pairs(file)
