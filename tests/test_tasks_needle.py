"""The needle in a haystack: labels against the text itself, what is kept for exams, typed texts."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, Needle
from labkit.tasks.needle import HAYS, KEYS, VALUES, WORDS, _text, documents, word_id

each_variant = pytest.mark.parametrize("variant", HAYS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts_of(context: list[int], mark: int) -> dict[int, int]:
    """Read the text from left to right, as a person would."""
    found, at = {}, 0
    while at < len(context):
        if context[at] == mark:
            assert context[at + 1] not in found, "no key has two values"
            found[context[at + 1]] = context[at + 2]
            at += 2
        at += 1
    return found


@each_variant
@pytest.mark.parametrize(("length", "needles"), [(3, 1), (40, 3), (30, 10), (200, 1)])
def test_labels_are_what_the_text_says(variant: str, length: int, needles: int) -> None:
    task = Needle(length=length, needles=needles, variant=variant)
    for batch in (task.batch(30, seeded(0)), task.lesson(30, seeded(1), 1)):
        for tokens, labels in zip(batch.tokens.tolist(), batch.labels.tolist(), strict=True):
            known = facts_of(tokens[:length], task.mark)
            assert len(known) == needles
            asked = tokens[length + 1 :: 3]
            assert sorted(asked) == sorted(known) and set(tokens[length::3]) == {task.mark}
            expected = [IGNORE] * len(tokens)
            expected[length + 1 :: 3] = [known[key] for key in asked]
            assert labels == expected


@each_variant
def test_keys_and_values_are_what_the_variant_says(variant: str) -> None:
    task = Needle(length=60, needles=2, variant=variant)
    exam = task.exam(3000, seeded(2))
    keys, values = exam.questions[..., 1], exam.answers
    kinds = {"word": (0, WORDS, 0, WORDS)}.get(variant, (task.first_key, KEYS, task.first_value, VALUES))
    for drawn, first, count in ((keys, *kinds[:2]), (values, *kinds[2:])):
        assert drawn.min() == first and drawn.max() == first + count - 1
    place = (exam.context == task.mark).nonzero()[:, 1].float()
    assert abs(float(place.mean()) - 28.5) < 1, "facts stand anywhere in the text"
    assert task.chance() == task.floor() == (1 / WORDS if variant == "word" else 1 / VALUES)


def test_the_haystack_is_real_text_and_exams_have_their_own() -> None:
    training, exams = _text("text", False), _text("text", True)
    assert min(len(training), len(exams)) > 12_000
    # stretches of eight words are hardly ever shared (set phrases are), so no text was put on both sides
    def stretches(text: object) -> set[tuple[int, ...]]:
        ids = list(text)  # type: ignore[call-overload]
        return {tuple(ids[i : i + 8]) for i in range(len(ids) - 7)}

    shared = stretches(training) & stretches(exams)
    assert len(shared) < 0.08 * min(len(training), len(exams))
    hay = Needle(length=400, needles=1, variant="number").exam(1, seeded(3)).context[0]
    at = int((hay == WORDS).nonzero()[0, 0])
    words = torch.cat([hay[:at], hay[at + 3 :]]).tolist()
    joined = " ".join(map(str, [*exams, *exams[:400]]))
    assert " ".join(map(str, words)) in joined, "the words stand in the order of the text"


def test_noise_repeats_itself() -> None:
    context = Needle(length=120, needles=1).exam(1, seeded(4)).context[0].tolist()
    assert len(set(context)) < 30


def test_typed_texts_are_read() -> None:
    task = Needle(length=20, needles=1)
    context = task.encode("The lake lies still. k3=v5 The lake, w7 k0=v63")
    lake, the = word_id("lake"), word_id("the")
    assert context[:2].tolist() == [the, lake] and word_id("LAKE") == lake
    assert facts_of(context.tolist(), task.mark) == {
        task.first_key + 3: task.first_value + 5, task.first_key: task.first_value + 63
    }  # fmt: skip
    assert 7 in context.tolist()
    assert torch.equal(task.encode(task.decode(context)), context)
    assert task.questions(context).answers.tolist() == [[task.first_value + 5, task.first_value + 63]]
    assert task.encode_question(3).tolist() == [task.mark, task.first_key + 3]
    assert [task.token_name(t) for t in (0, 256, 257, 513)] == ["w0", "!", "k0", "v0"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There is no fact in this text; type one, such as k3=v5"),
        ("only words", "There is no fact in this text"),
        ("k256=v1", "There is no k256; they go from k0 to k255"),
        ("k1=v64", "There is no v64"),
        ("k1=v2 w256", "There is no w256; they go from w0 to w255"),
        ("k3=w6", "There is no fact in this text"),
    ],
)
def test_what_is_no_haystack_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Needle().encode(text)
    assert sentence in str(refused.value)


def test_lessons_mix_variants_and_lengths_and_exams_do_not() -> None:
    task = Needle(length=80, needles=2, variant="passkey+word", window=20, shorter=True)
    assert task.chance() == (1 / VALUES + 1 / WORDS) / 2
    generator, seen = seeded(0), set()
    for _ in range(20):
        lesson = task.lesson(8, generator, 1)
        seen.add(lesson.context)
        assert lesson.tokens.shape[1] == lesson.context + 6 and lesson.window == 20
        for tokens, labels in zip(lesson.tokens.tolist(), lesson.labels.tolist(), strict=True):
            known = facts_of(tokens[: lesson.context], task.mark)
            for at in (lesson.context + 1, lesson.context + 4):
                assert known[tokens[at]] == labels[at]
            assert len({key < WORDS for key in known}) == 1, "a row is of one variant"
    assert seen == {20, 40, 80}
    with pytest.raises(ValueError, match="is for lessons; examine one variant at a time"):
        task.exam(2, generator)
    longer = task.at_length(600, 1, "word")
    assert (longer.length, longer.needles, longer.variant, longer.window) == (600, 1, "word", 20)
    for wrong in ({"window": 25}, {"window": 20}, {"window": 5}):
        with pytest.raises(ValueError, match="For shorter lessons length=60 must be window="):
            Needle(length=60, needles=2, shorter=True, **wrong)  # type: ignore[arg-type]


def test_lessons_of_fewer_facts_hold_all_or_a_quarter_down_to_one() -> None:
    task = Needle(length=64, needles=16, queries=3, fewer=True)
    generator, seen = seeded(0), set()
    for _ in range(20):
        lesson = task.lesson(4, generator, 1)
        facts = (lesson.tokens[:, : lesson.context] == task.mark).sum(1).unique().item()
        assert lesson.tokens.shape[1] - lesson.context == 3 * min(3, facts), "no more questions than facts"
        seen.add(facts)
    assert seen == {16, 4, 1}
    assert Needle(length=64, needles=3, fewer=True).lesson(2, seeded(1), 1).tokens.shape[1] == 64 + 9
    with pytest.raises(TypeError, match="fewer is 1; it should be True or False"):
        Needle(fewer=1)  # type: ignore[arg-type]


def test_documents_hold_one_fact_each_and_no_key_twice() -> None:
    exam = documents(3, 40, 16, seeded(5))
    assert exam.context.shape == (3, 640) and exam.window == 16
    pages = exam.context.view(3, 40, 16)
    for stream, questions, answers in zip(pages.tolist(), exam.questions.tolist(), exam.answers.tolist(), strict=True):
        facts = [facts_of(page, WORDS) for page in stream]
        assert [list(fact.items()) for fact in facts] == [[(q[1], a)] for q, a in zip(questions, answers, strict=True)]
        assert len({q[1] for q in questions}) == 40
    words = pages[0][(pages[0] < WORDS)].tolist()
    held_out = _text("text", True).tolist()
    assert " ".join(map(str, words)) in " ".join(map(str, held_out + held_out)), "documents go on through the text"


def test_what_does_not_fit_is_refused() -> None:
    for params, sentence in (
        ({"variant": "passkeys"}, "variant is 'passkeys'; it should be one of passkey, number, word"),
        ({"length": 8, "needles": 3}, "needles is 3; it should be a whole number from 1 to 2"),
        ({"needles": 2, "queries": 3}, "queries is 3"),
        ({"window": 500}, "window is 500"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Needle(**params)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="should be text"):
        Needle().encode(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The key k3 has two facts"):
        Needle().questions(Needle().encode("k3=v5 and k3=v6"))
    with pytest.raises(ValueError, match="no whole fact"):
        Needle().questions(torch.tensor([5, WORDS, 300]))
