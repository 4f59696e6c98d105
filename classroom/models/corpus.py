"""Write the corpus of the embedded model: a small grammar says the same thing in many ways.

A `Sentence` is a meaning: who did what to what, where and how. The functions below it put the meaning into words:
plain, passive, as a question, with the place in front. A model that has read a hundred thousand of them can take a
sentence apart and put it together again; the course's fine-tuning builds on that. (Tales that only repeat sentences
word for word do not teach it: LoRA on such a base learned the form of the task and copied the wrong words.)

One form is left out on purpose: the object in front of subject and verb, "A silver key, the young knight found." It is
the task of the course, `models.task`, and no text made here contains it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def words(text: str) -> list[str]:
    return text.split()


PEOPLE = words(
    """
    knight farmer master robot pilot teacher baker sailor queen king doctor painter hunter singer student
    guard judge miner poet clerk driver nurse scout smith tailor weaver wizard monk merchant gardener
    """
)
NAMES = words(
    """
    Anna Ben Clara David Ella Felix Greta Hugo Ida Jonas Karl Lena Mara Nils Olga Paul Rosa Sven Tara Viktor
    """
)
THINGS = words(
    """
    key sword map lantern ship book box letter crown ring coin stone bell cup chair table door window horse
    cat dog bird fish apple cake bread candle mirror clock drum flute rope wheel hammer basket bottle
    blanket coat hat boot painting ladder wagon tower bridge boat shield scroll jewel feather
    """
)
OF_PEOPLE = words(
    """
    young old wise brave quiet clever tired happy proud gentle tall kind lonely busy famous small
    """
)
OF_THINGS = words(
    """
    silver golden wooden broken little heavy ancient red blue green white black shiny dusty round strange
    large empty precious hidden
    """
)
ADVERBS = words(
    """
    quietly slowly quickly secretly carefully gladly suddenly proudly finally gently bravely calmly
    """
)
PLACES = """
    in the forest, near the river, at the market, under the bridge, in the garden, on the hill,
    behind the house, in the castle, by the sea, at the harbour, in the kitchen, near the old mill,
    on the island, in the cave, beside the road, in the village, at the school, on the roof, in the valley,
    near the lake
    """
PLACES = [" ".join(place.split()) for place in PLACES.split(",")]
#        base, past, participle
VERBS = """
    find found found, lose lost lost, sell sold sold, hide hid hidden, see saw seen, carry carried carried,
    buy bought bought, take took taken, bring brought brought, keep kept kept, paint painted painted,
    repair repaired repaired, break broke broken, steal stole stolen, make made made, draw drew drawn,
    clean cleaned cleaned, lift lifted lifted, drop dropped dropped, open opened opened,
    touch touched touched, move moved moved, watch watched watched, catch caught caught,
    follow followed followed, choose chose chosen, throw threw thrown, burn burned burned,
    build built built, want wanted wanted, love loved loved, count counted counted, admire admired admired,
    guard guarded guarded, return returned returned
    """


@dataclass(frozen=True)
class Verb:
    base: str
    past: str
    participle: str


VERBS = tuple(Verb(*entry.split()) for entry in VERBS.split(","))


@dataclass(frozen=True)
class Sentence:
    """Who did what to what; `place` and `adverb` may be empty. Noun phrases are in the lower case of mid-sentence."""

    subject: str
    verb: Verb
    object: str
    place: str = ""
    adverb: str = ""


def sentence(random: random.Random, bare: float = 0.25) -> Sentence:
    """One meaning at random; every combination of words is possible. `bare`: share of nouns without an adjective."""
    # The order of the draws is part of the corpus: another order, another corpus for the same seed.
    named = random.random() < 0.2
    return Sentence(
        subject=random.choice(NAMES) if named else noun_phrase(random, PEOPLE, OF_PEOPLE, bare),
        verb=random.choice(VERBS),
        object=noun_phrase(random, THINGS, OF_THINGS, bare),
        place=random.choice(PLACES) if random.random() < 0.45 else "",
        adverb=random.choice(ADVERBS) if random.random() < 0.25 else "",
    )


def noun_phrase(random: random.Random, nouns: list[str], adjectives: list[str], bare: float) -> str:
    words = [random.choice(adjectives)] if random.random() < 1 - bare else []
    words.append(random.choice(nouns))
    if random.random() < 0.5:
        return " ".join(["the", *words])
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


# ---------------------------------------------------------------- one meaning, many forms


def plain(s: Sentence) -> str:
    return close(s.subject, s.adverb, s.verb.past, s.object, s.place)


def passive(s: Sentence) -> str:
    return close(s.object, "was", s.adverb, s.verb.participle, "by", s.subject, s.place)


def object_cleft(s: Sentence) -> str:
    return close("it was", s.object, "that", s.subject, s.adverb, s.verb.past, s.place)


def subject_cleft(s: Sentence) -> str:
    return close("it was", s.subject, "who", s.adverb, s.verb.past, s.object, s.place)


def dislocated(s: Sentence) -> str:
    """The object named first, and again as "it": the neighbour of the task's form."""
    return close(s.object + ":", s.subject, s.adverb, s.verb.past, "it", s.place)


def place_first(s: Sentence) -> str:
    return close(s.place + ",", s.subject, s.adverb, s.verb.past, s.object) if s.place else plain(s)


def adverb_first(s: Sentence) -> str:
    return close(s.adverb + ",", s.subject, s.verb.past, s.object, s.place) if s.adverb else plain(s)


def future(s: Sentence) -> str:
    return close(s.subject, "will", s.adverb, s.verb.base, s.object, s.place)


def negation(s: Sentence) -> str:
    return close(s.subject, "did not", s.adverb, s.verb.base, s.object, s.place)


def who_question(s: Sentence) -> str:
    return close("who", s.adverb, s.verb.past, s.object, s.place, end="?")


def what_question(s: Sentence) -> str:
    return close("what did", s.subject, s.adverb, s.verb.base, s.place, end="?")


def subject_answer(s: Sentence) -> str:
    return close(s.subject)


def object_answer(s: Sentence) -> str:
    return close(s.object)


def verb_answer(s: Sentence) -> str:
    return close(s.verb.past)


def parts(s: Sentence) -> str:
    named = {"who": s.subject, "did": s.verb.past, "what": s.object, "where": s.place, "how": s.adverb}
    return "; ".join(f"{name}: {words}" for name, words in named.items() if words) + "."


def parts_object_first(s: Sentence) -> str:
    """The order of the task as a list, without its sentence."""
    named = {"what": s.object, "who": s.subject, "how": s.adverb, "did": s.verb.past, "where": s.place}
    return "; ".join(f"{name}: {words}" for name, words in named.items() if words) + "."


def close(*words: str, end: str = ".") -> str:
    """The words as a sentence: empty ones dropped, a capital in front, a full stop behind."""
    text = " ".join(word for word in words if word)
    return text[0].upper() + text[1:] + end


#          form                 how it is asked for; the sentence follows after a colon
FORMS: dict[Callable[[Sentence], str], tuple[str, ...]] = {
    plain: ("Repeat the sentence", "Say it again"),
    passive: ("Put it into the passive", "Say it with was"),
    object_cleft: ("Stress the object", "Say what it was"),
    subject_cleft: ("Stress the subject", "Say who it was"),
    dislocated: ("Name the object first, then say it", "Object with a colon"),
    place_first: ("Begin with the place", "Place first"),
    adverb_first: ("Begin with the adverb", "Adverb first"),
    future: ("Say it about tomorrow", "Use will"),
    negation: ("Deny it", "Say that it did not happen"),
    who_question: ("Ask who did it", "Ask about the subject"),
    what_question: ("Ask what it was", "Ask about the object"),
    subject_answer: ("Who did it", "Name the subject"),
    object_answer: ("What was it", "Name the object"),
    verb_answer: ("What was done", "Name the verb"),
    parts: ("List the parts", "Take it apart"),
    parts_object_first: ("List the parts, object first", "Take it apart, object first"),
}


# ---------------------------------------------------------------- documents


def chat(random: random.Random, s: Sentence) -> list[dict[str, str]]:
    """Two to four requests about one sentence, with their answers, as messages. Most words can be copied."""
    messages = []
    for form in random.sample(list(FORMS), random.choice((2, 3, 4))):
        request = f"{random.choice(FORMS[form])}: {plain(s)}"
        messages += [{"role": "user", "content": request}, {"role": "assistant", "content": form(s)}]
    return messages


def tale(random: random.Random, s: Sentence) -> str:
    """A few sentences that tell one event, with a quotation and perhaps a question and its answer."""
    told = random.choice((plain, passive, place_first, adverb_first))(s)
    speaker = random.choice([name for name in NAMES if name != s.subject])
    quoted = random.choice((plain, passive, object_cleft, subject_cleft, future, negation))(s)
    said = f'"{quoted[:-1]}," said {speaker}.'
    question, answer = random.choice(((who_question, subject_answer), (what_question, object_answer)))
    asked = f'"{question(s)}" asked {speaker}. "{answer(s)}"'
    return " ".join(random.sample([told, said, asked], random.choice((2, 3))))


def documents(
    seed: int, count: int, keep: Callable[[Sentence], bool] = lambda s: True, bare: float = 0.25
) -> Iterator[list | str]:
    """`count` documents, the same for the same seed: three chats (lists of messages) for every tale (text).

    keep  says which sentences may be used; the held-out ones of the task are kept out with it
    bare  as in sentence()
    """
    dice = random.Random(seed)
    while count > 0:
        s = sentence(dice, bare)
        if keep(s):
            yield tale(dice, s) if dice.random() < 0.25 else chat(dice, s)
            count -= 1
