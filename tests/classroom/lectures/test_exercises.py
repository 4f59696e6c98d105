"""The exercises of every lecture: solutions pass, stubs fail kindly, every mistake is named by its own name."""

import importlib
import inspect
import linecache
import re
from functools import cache
from pathlib import Path

import pytest

from classroom.checking.diagnosis import Answers, diagnose
from classroom.lectures import ORDER, stem
from classroom.publish.exercises import release
from classroom.publish.sources import read_source

ROOT = Path(__file__).parents[3]


def written(word: str) -> Path:
    return ROOT / "solutions" / "src" / f"{stem(word)}.py"


WORDS = [word for word in ORDER if written(word).exists()]
SETS = {word: importlib.import_module(f"classroom.lectures.{word}.exercises") for word in WORDS}
EXERCISES = {exercise.name: (word, exercise) for word in WORDS for exercise in SETS[word].EXERCISES}
MISTAKES = [
    pytest.param(word, exercise, mistake, id=f"{exercise.name}-{mistake.name}")
    for word, exercise in EXERCISES.values()
    for mistake in exercise.mistakes
]
each_lecture = pytest.mark.parametrize("word", WORDS)
each_exercise = pytest.mark.parametrize("name", EXERCISES)


@cache
def functions(word: str, released: bool) -> dict:
    """What the text's cells define, as in a kernel (with source for inspect): solutions, or the student's stubs."""
    notebook = read_source(written(word))
    notebook = release(notebook) if released else notebook
    names: dict = {}
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or "verdict = check" in cell.source:
            continue
        file = f"<cell {place} of {word}, released: {released}>"
        linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(keepends=True), file)
        exec(compile(cell.source, file, "exec"), names)
    return names


def solution(name: str):
    return functions(EXERCISES[name][0], released=False)[name]


def stub(name: str):
    return functions(EXERCISES[name][0], released=True)[name]


def as_student(name: str, program):
    """The program as a student's function: with the names of the exercise's arguments, and nothing of ours."""
    wanted = inspect.signature(solution(name)).parameters

    def students(*arguments):
        return program(*arguments)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    students.__signature__ = inspect.Signature([inspect.Parameter(p, kind) for p in wanted])
    return students


@each_exercise
def test_the_solution_passes(name):
    verdict = EXERCISES[name][1].judge(solution(name))
    assert verdict.passed, verdict


@each_exercise
def test_the_stub_has_not_started(name):
    """Kind: no hints, no failure counted, the minutes and what to do next."""
    _, exercise = EXERCISES[name]
    verdict = exercise(stub(name))
    assert verdict.status == "not started" and f"about {exercise.minutes} minutes" in verdict.words
    assert exercise.failures == 0 and verdict.shown == 0


@pytest.mark.parametrize(("word", "exercise", "mistake"), MISTAKES)
def test_every_mistake_is_recognised_by_its_own_name(word, exercise, mistake):
    """It is wrong, it is not taken for a neighbour, and its words are read with a case that shows it."""
    verdict = exercise.judge(as_student(exercise.name, mistake.program))
    assert verdict.status == "wrong" and verdict.misconception == mistake.name, verdict
    assert any(other.words in verdict.words for other in exercise.mistakes if other.name == mistake.name)
    assert verdict.expected and verdict.got != verdict.expected


@pytest.mark.parametrize(("word", "exercise", "mistake"), MISTAKES)
def test_a_diagnosis_does_not_contradict_right_answers(word, exercise, mistake):
    """One answer is the mistake's, but where the mistake is wrong too the student is right: it is not this mistake."""
    cases = exercise.cases
    told = [exercise._told(mistake.program, case) for case in cases]
    given = [exercise._told(solution(exercise.name), case) for case in cases]
    wrong = [place for place, case in enumerate(cases) if not exercise._is_right(case.expected, told[place])]
    if (len(wrong) - 1) * 100 <= len(cases):  # a special value may be an exception
        return
    given[wrong[0]] = told[wrong[0]]
    answers = Answers(
        expected=[case.expected for case in cases],
        given=given,
        wrong=wrong[:1],
        told=lambda program, place: told[place],
        alike=exercise._is_alike,
    )
    assert diagnose([mistake], answers).name != mistake.name


@each_exercise
def test_an_exercise_knows_mistakes_and_three_hints(name):
    _, exercise = EXERCISES[name]
    assert len({mistake.name for mistake in exercise.mistakes}) >= 2
    assert len(exercise.hints) == 3
    assert exercise.name == name == solution(name).__name__


@each_exercise
@pytest.mark.parametrize("answer", [None, 7, "text", (), [[]], (1, 2), {}], ids=repr)
def test_an_answer_of_another_kind_is_wrong_and_not_an_error(name, answer):
    verdict = EXERCISES[name][1].judge(as_student(name, lambda *arguments: answer))
    assert verdict.status == "wrong" and verdict.got != verdict.expected, verdict
    assert "Traceback" not in str(verdict)


@each_exercise
def test_an_error_is_told_in_words(name):
    verdict = EXERCISES[name][1](as_student(name, lambda *arguments: 1 / 0))
    assert verdict.status == "error" and "ZeroDivisionError" in verdict.words and verdict.shown == 0
    assert "Traceback" not in str(verdict)


# ---------------------------------------------------------------- the text


@each_lecture
def test_the_text_asks_for_each_exercise_in_order(word):
    """Numbers, titles and minutes are filled in from the exercises when the source is read."""
    exercises = SETS[word].EXERCISES
    text = "\n".join(cell.source for cell in read_source(written(word)).cells)
    headings = re.findall(r"^## (\d+)\. (.*) \((\d+) minutes\)$", text, re.MULTILINE)
    wanted = [(str(n), e.title, str(e.minutes)) for n, e in enumerate(exercises, start=1)]
    assert headings == wanted
    assert f"About {sum(exercise.minutes for exercise in exercises)} minutes for all" in text
    checked = re.findall(r"^verdict = check\.(\w+)\(", text, re.MULTILINE)
    assert checked == [exercise.name for exercise in exercises]


@each_lecture
def test_each_exercise_names_a_section_of_the_lecture_to_look_at(word):
    lecture = (ROOT / "notebooks" / "src" / f"{stem(word)}.py").read_text(encoding="utf-8")
    sections = set(re.findall(r"^# ## (.*)$", lecture, re.MULTILINE))
    prose = written(word).read_text(encoding="utf-8").replace("\n# ", " ")
    named = re.findall(r'Where to look: "([^"]+)" in lecture (\d)', prose)
    assert [int(lecture) for _, lecture in named] == [ORDER.index(word)] * len(SETS[word].EXERCISES)
    assert {section for section, _ in named} <= sections


@each_lecture
def test_an_oracle_is_not_what_the_exercises_train(word):
    """The truth comes from libraries and definitions: a bug of ours cannot make a wrong answer right."""
    text = Path(SETS[word].__file__).read_text(encoding="utf-8")
    assert "coursekit" not in text


@each_lecture
def test_the_hidden_tests_raise_where_the_check_fails(word):
    """What a teacher's grading runs: check cells with hidden tests, on a notebook that is not filled in."""
    cells = [cell.source for cell in read_source(written(word)).cells if "HIDDEN TESTS" in cell.source]
    assert len(cells) == len(SETS[word].EXERCISES)
    for cell in cells:
        with pytest.raises(AssertionError):
            exec(cell, {**functions(word, released=True), "check": SETS[word]})
