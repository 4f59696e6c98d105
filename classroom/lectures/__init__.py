"""The lectures, one folder each; a lecture has one word, and its number is its place in ORDER.

start       lecture 0: the start page
formats     lecture 1: number formats
amp         lecture 2: mixed precision
memory      lecture 3: memory
throughput  lecture 4: throughput

In a folder, as far as the lecture has them: `exercises` (question, truth, mistakes), `experiments` (computed once for
notebook, deck and claims), `figures`, `claims`, `benchmark`.
"""

ORDER = ("start", "formats", "amp", "memory", "throughput")


def number(word: str) -> int:
    """The number of a lecture. Raises ValueError for a word that no lecture has."""
    if word not in ORDER:
        raise ValueError(f"no lecture is called {word!r}; there are {', '.join(ORDER)}.")
    return ORDER.index(word)


def stem(word: str) -> str:
    """The name that a lecture's files share: `03_memory`."""
    return f"{number(word):02}_{word}"
