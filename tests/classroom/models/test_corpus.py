"""The grammar says one meaning in many forms, the same for the same seed, and never in the form of the task."""

import hashlib
import random
import re

import pytest

from classroom.models import corpus, task
from classroom.models.train_tiny import as_text, base_documents

S = corpus.Sentence("the young knight", corpus.VERBS[0], "a silver key", "in the forest", "quietly")
BARE = corpus.Sentence("Anna", corpus.VERBS[0], "an old map")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (corpus.plain, "The young knight quietly found a silver key in the forest."),
        (corpus.passive, "A silver key was quietly found by the young knight in the forest."),
        (corpus.object_cleft, "It was a silver key that the young knight quietly found in the forest."),
        (corpus.dislocated, "A silver key: the young knight quietly found it in the forest."),
        (corpus.place_first, "In the forest, the young knight quietly found a silver key."),
        (corpus.negation, "The young knight did not quietly find a silver key in the forest."),
        (corpus.who_question, "Who quietly found a silver key in the forest?"),
        (corpus.what_question, "What did the young knight quietly find in the forest?"),
        (
            corpus.parts,
            "who: the young knight; did: found; what: a silver key; where: in the forest; how: quietly.",
        ),
        (task.object_first, "A silver key, the young knight quietly found in the forest."),
    ],
)
def test_forms(form, text):
    """Written out by hand."""
    assert form(S) == text


def test_what_a_sentence_lacks_leaves_no_gap():
    assert corpus.plain(BARE) == "Anna found an old map."
    assert task.object_first(BARE) == "An old map, Anna found."


def test_every_form_of_every_sentence_is_clean():
    """No double space, no space before a mark, "an" exactly before a vowel."""
    dice = random.Random(1)
    for _ in range(500):
        s = corpus.sentence(dice)
        for form in (*corpus.FORMS, task.object_first):
            text = form(s)
            assert not re.search(r"  | [.,?]|\ba [aeiou]|\bA [aeiou]|\ban [^aeiou]|\bAn [^aeiou]", text), text


def test_the_same_seed_gives_the_same_text():
    digests = [
        hashlib.sha256("".join(map(as_text, corpus.documents(seed, 300))).encode()).hexdigest()
        for seed in (5, 5, 6)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_base_corpus_holds_neither_the_form_of_the_task_nor_a_held_out_sentence():
    held_out = {
        pair.prompt.split(": ", 1)[1] for split in ("validation", "test") for pair in task.pairs(split, 2000)
    }
    fronted = re.compile(r"(?:^|[.\"] )(?:An?|The) [a-z ]+, (?:an?|the|[A-Z])")
    place_or_adverb = re.compile("|".join([*corpus.PLACES, *corpus.ADVERBS]), re.IGNORECASE)
    for document in base_documents(3, 3000):
        text = as_text(document)
        assert task.REQUEST not in text
        assert not held_out & set(re.split(r"(?<=\.)\s|\n|: ", text))
        assert all(place_or_adverb.search(found[0]) for found in fronted.finditer(text))
