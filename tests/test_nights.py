"""Nights and look-ups on models: what is slept on, what is opened, what it costs, and rows that say so."""

from __future__ import annotations

import functools
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from labkit import checkpoints, nights
from labkit.budget import flops_of
from labkit.cli import app
from labkit.evaluate import fall_asleep
from labkit.lookups import look_up, lookup_rows, ways
from labkit.models import SleepConfig, SleepLM
from labkit.nights import NOTES, Told, through
from labkit.reasoning import write_chains
from labkit.tasks import DepoArchive, NightsThinking, Task

from swept import empty_rooms

NIGHTS = NightsThinking(width=3, nights=3, thoughts=1)
ARCHIVE = DepoArchive(nodes=8, hops=3, window=6, thoughts=1, lookups=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_for(task: Task, eviction: str = "hard") -> SleepLM:
    torch.manual_seed(0)
    config = SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1, eviction=eviction)
    return SleepLM(config).eval()


@pytest.mark.parametrize("notes", NOTES)
def test_what_is_slept_on_night_after_night(notes: str) -> None:
    model, heard = model_for(NIGHTS), []
    exam = NIGHTS.questions(NIGHTS.exam(2, seeded()).context)
    sleep = model.sleep

    def listening(tokens: torch.Tensor, state: object, passes: int) -> object:
        heard.append(tokens)
        return sleep(tokens, state, passes)  # type: ignore[arg-type]

    model.sleep = listening  # type: ignore[method-assign, assignment]
    told = list(through(model, NIGHTS, exam, 2, 1, notes))
    days = exam.context.split(NIGHTS.window, dim=1)
    wanted = {"none": list(days), "true": list(NIGHTS.with_notes(exam.context).split(NIGHTS.window, dim=1))}
    wanted["again"] = [day for day in days for _ in range(2)]
    if notes in wanted:
        assert all(torch.equal(a, b) for a, b in zip(wanted[notes], heard, strict=False))
        assert all(t.think == 0 for t in told)
    if notes == "own":  # what the model answers, awake, from the state that the facts left
        asked = NIGHTS.announced(NIGHTS.asked(exam, 1, 1), 1)
        said = write_chains(model, NIGHTS, asked, told[0].state, 1)[..., -1]
        assert torch.equal(heard[1], NIGHTS.notes(NIGHTS.facts(exam.context), 1, said))
        assert told[2].think == 2 * told[1].think > 0
    assert [t.night for t in told] == [1, 2, 3]


@pytest.mark.parametrize("eviction", ["hard", "keep", "sliding"])
def test_operations_of_a_night_are_those_that_are_made(eviction: str) -> None:
    model = model_for(NIGHTS, eviction)
    exam = NIGHTS.questions(NIGHTS.exam(1, seeded()).context)
    told: list[Told] = []

    def run(until: int) -> None:
        told.extend(islice(through(model, NIGHTS, exam, 2, 1, "own"), until))

    for night in (1, 2, 3):
        assert flops_of(functools.partial(run, night)) == told[-1].sleep + told[-1].think


@pytest.mark.parametrize("eviction", ["hard", "keep", "sliding"])
@pytest.mark.parametrize(("opened", "thought"), [(0, 1), (2, 0), (2, 1)])
def test_operations_of_look_ups_are_those_that_are_made(
    eviction: str, opened: int, thought: int, tmp_path: Path
) -> None:
    model = model_for(ARCHIVE, eviction)
    card = {"task": {"kind": ARCHIVE.name, **ARCHIVE.params}, "recipe": {}}
    checkpoints.save_checkpoint(model, card, "archive", 0, tmp_path)
    rows = lookup_rows("archive", 0, passes=[2], errors=[0.0], n=1, folder=tmp_path)
    row = rows[(rows["lookups"] == opened) & (rows["thought"] == thought)].iloc[0]
    exam = ARCHIVE.announced(ARCHIVE.exam(1, seeded()), thought)
    state, which = fall_asleep(model, exam.context, 2), ways(ARCHIVE, exam, opened, 0.0, seeded())
    made = flops_of(lambda: look_up(model, ARCHIVE, exam, state, thought, which))
    unread = 2 * opened * ARCHIVE.window * model.config.dim * ARCHIVE.vocab  # logits that no one needs
    assert made == exam.answers.shape[1] * (row["flops_wake"] + unread)


def test_wrong_notes_are_wrong_as_often_as_they_shall() -> None:
    model = model_for(NIGHTS)
    exam = NIGHTS.questions(NIGHTS.exam(300, seeded()).context)
    for wrong in (0.3, 1.0):
        told = list(through(model, NIGHTS, exam, 0, 0, "true", wrong, seeded(1)))
        assert told[-1].notes_right == pytest.approx(1 - wrong, abs=0.05)
    for mistake in ({"notes": "some"}, {"notes": "true", "wrong": 0.5}, {"notes": "again", "wrong": 0.5}):
        with pytest.raises(ValueError, match="it should be"):
            list(through(model, NIGHTS, exam, 1, 0, **mistake))  # type: ignore[arg-type]


def test_which_questions_have_a_wrong_note_and_what_it_says() -> None:
    model = model_for(NIGHTS)
    exam = NIGHTS.questions(NIGHTS.exam(40, seeded()).context)
    facts = NIGHTS.facts(exam.context)
    for wrong in (0.0, 0.5, 1.0):
        for told in through(model, NIGHTS, exam, 0, 0, "true", wrong, seeded(1)):
            misnoted, noted, true = nights._misnoted(NIGHTS, exam, told)
            if told.night == 1:
                assert not misnoted.any()  # its facts lead to the first day by themselves
                continue
            assert told.notes is not None
            assert misnoted.float().mean() == pytest.approx(wrong, abs=0.15)
            for text in range(40):
                leads = dict(facts[text].flatten(0, 1).tolist())
                said = dict(zip(facts[text, told.night - 2, :, 0].tolist(), told.notes[text].tolist(), strict=True))
                for at, (_, parent) in enumerate(facts[text, told.night - 1].tolist()):
                    origin = parent
                    while origin in leads:
                        origin = leads[origin]
                    assert int(noted[text, at]) == said[parent] and int(true[text, at]) == origin
                    assert bool(misnoted[text, at]) == (said[parent] != origin)


def test_a_chooser_that_knows_the_way_opens_the_windows_on_it_first() -> None:
    exam = ARCHIVE.exam(50, seeded())
    which = ways(ARCHIVE, exam, 3, 0.0, seeded(1))
    at = ARCHIVE.window_of(exam.context, ARCHIVE.path(exam).flatten(1)).unflatten(1, (-1, 3))
    for row in range(50):
        for q, depth in enumerate(exam.depth[row].tolist()):
            needed = list(dict.fromkeys(at[row, q, :depth].tolist()))
            opened = which[row, q].tolist()
            assert len(set(opened)) == 3 and opened[: len(needed)] == needed


def test_a_blind_chooser_opens_any_window() -> None:
    exam = ARCHIVE.exam(400, seeded())
    first = ways(ARCHIVE, exam, 1, 1.0, seeded(1))[..., 0]
    at = ARCHIVE.window_of(exam.context, ARCHIVE.path(exam).flatten(1)).unflatten(1, (-1, 3))[..., 0]
    assert (first == at).float().mean() == pytest.approx(1 / 4, abs=0.05)
    half = ways(ARCHIVE, exam, 1, 0.3, seeded(1))[..., 0]
    assert 0.6 < (half == at).float().mean() < 0.85


def test_answers_after_opening_are_those_of_reading_window_and_question_in_a_row() -> None:
    model = model_for(ARCHIVE)
    exam = ARCHIVE.announced(ARCHIVE.exam(3, seeded()), 1)
    state, which = fall_asleep(model, exam.context, 2), ways(ARCHIVE, exam, 2, 0.0, seeded(1))
    found = look_up(model, ARCHIVE, exam, state, 1, which)
    windows = exam.context.unflatten(1, (-1, 6))
    for row in range(3):
        for q in range(exam.depth.shape[1]):
            tokens = torch.cat([*windows[row, which[row, q]], exam.questions[row, q]])[None]
            for _ in range(2):
                logits, _ = model.wake(tokens, state.select(torch.tensor([row])))
                tokens = torch.cat([tokens, logits[:, -1].argmax(-1)[:, None]], dim=1)
            assert int(found[row, q]) == int(tokens[0, -1])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    empty_rooms(tmp_path, monkeypatch)
    for task in (NIGHTS, ARCHIVE):
        card = {"task": {"kind": task.name, **task.params}, "recipe": {}}
        checkpoints.save_checkpoint(model_for(task), card, task.name, 0, tmp_path / "checkpoints")
    return tmp_path


def run(line: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, line.split())
    return told.exit_code, told.stderr


def test_nights_and_look_ups_are_measured_from_the_command_line(data: Path) -> None:
    assert run("nights nights-thinking --passes 0 --n 5")[0] == run("nights nights-thinking --passes 0 2 --n 5")[0] == 0
    rows = pd.read_csv(data / "results" / "nights-thinking-by-night.csv")
    assert len(rows) == 2 * 3 * (5 * 2 + 2 * 2) and set(rows["notes"]) == set(NOTES)  # own notes: every R with every R
    assert (rows.loc[rows["notes"] != "own", "written"] == rows.loc[rows["notes"] != "own", "thought"]).all()
    spoilt = rows[(rows["wrong"] == 1) & (rows["night"] > 1)]
    assert (spoilt["misnoted"] == spoilt["asked"]).all() and (rows.loc[rows["night"] == 1, "misnoted"] == 0).all()
    assert (rows["misled"] + rows["unmoved"] <= rows["misnoted"]).all()
    assert rows.loc[rows["night"] == 1, "right_2"].isna().all()
    assert rows.loc[rows["night"] == 3, "right_3"].notna().all()
    assert run("lookups depo-archive --passes 1 --n 5") [0] == 0
    rows = pd.read_csv(data / "results" / "depo-archive-lookups.csv")
    assert len(rows) == 2 * (1 + 3 * 3)
    cost = rows[(rows["thought"] == 0) & (rows["chooser_error"] == 0)].set_index("lookups")["flops_wake"]
    assert cost.is_monotonic_increasing and cost[3] > 3 * cost[0]
    rows.assign(weights="of before").to_csv(data / "results" / "depo-archive-lookups.csv", index=False)
    assert run("lookups depo-archive --passes 2 --n 5") [0] == 0
    again = pd.read_csv(data / "results" / "depo-archive-lookups.csv")
    assert set(again["weights"]) == set(rows["weights"]) and set(again["passes"]) == {2}  # of what is there now


def test_models_of_other_tasks_are_refused(data: Path) -> None:
    for line, sentence in (
        ("nights depo-archive", "depo-archive was not trained on nights"),
        ("lookups nights-thinking", "nights-thinking was not trained with an archive"),
    ):
        code, told = run(line)
        assert code == 2 and sentence in told
