"""The contest of the nights, on tables whose winner is known."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from labkit.explore import night_panels
from labkit.laws.overnight import bills, contest


def table(wrong: dict[tuple[str, int, int], float], noise: float = 0.01, checkpoint: str = "m") -> pd.DataFrame:
    """Six nights' rows with these shares wrong, by notes, N and R; three seeds differ a little."""
    rows = []
    for ((notes, passes, thought), share), seed, night in itertools.product(wrong.items(), range(3), (5, 6)):
        right = round(1000 * (1 - share - noise * (seed - 1)))
        rows.append({
            "checkpoint": checkpoint, "seed": str(seed), "weights": "w", "passes": passes, "written": thought,
            "thought": thought,
            "notes": notes, "wrong": 0.0, "night": night, "n": 1000, "asked": 1000, f"right_{night}": right,
            "flops_sleep": 10 * passes * (2 if notes == "own" else 1), "flops_think": thought if notes == "own" else 0,
            "flops_wake": 1 + thought, "wrong_at_first": 1 - right / 1000,
        })  # fmt: skip
    return pd.DataFrame(rows)


def test_the_bill_holds_sleep_thought_and_all_questions() -> None:
    rows = bills(table({("own", 2, 1): 0.2, ("none", 8, 0): 0.1, ("true", 1, 0): 0.0}), questions=5)
    assert set(rows["notes"]) == {"own"} and set(rows["night"]) == {6}  # eight passes were not taught
    assert rows["bill"].tolist() == [10 * 2 * 2 + 1 + 5 * 2] * 3
    assert rows["wrong_at_first"].tolist() == pytest.approx([0.19, 0.2, 0.21])


def test_who_wins_is_told_and_who_met_whom() -> None:
    facts = {("none", 1, 1): 0.8, ("none", 2, 1): 0.4, ("none", 4, 1): 0.05}
    lost = contest(table(facts | {("own", 2, 1): 0.1, ("own", 1, 1): 0.3}), 1)
    # 41 + 2 operations: four passes would cost 42 with one question, and less than four are too wrong
    assert lost.loop == "m, own thoughts, N = 2, R = 1" and lost.rival == "m, facts alone, N = 4, R = 1"
    assert lost.verdict == "beaten"
    won = contest(table(facts | {("own", 1, 1): 0.1}), 1)
    assert won.rival == "m, facts alone, N = 2, R = 1" and won.verdict == "compounds"  # four passes are too dear
    assert won.lead is not None and won.lead.value == pytest.approx(0.3) and won.lead.low > 0.2
    level = contest(table(facts | {("own", 2, 1): 0.05}), 1)
    assert level.verdict == "undecided"
    alone = contest(table({("own", 1, 0): 0.1, ("none", 4, 0): 0.1}), 1)
    assert alone.verdict == "without a rival" and alone.lead is None


def test_with_one_seed_no_verdict_is_given() -> None:
    rows = table({("own", 1, 1): 0.1, ("none", 1, 1): 0.5})
    only = table({("none", 1, 5): 0.0}, noise=0.0, checkpoint="long")
    for own, alone in ((rows[rows["seed"] == "0"], None), (rows, only[only["seed"] == "0"])):
        found = contest(own, 8, alone)
        assert found.verdict == "too few seeds" and found.lead is None


def test_a_cell_is_not_chosen_on_what_it_is_told_by() -> None:
    """A cell that is good on one seed only is chosen by nobody who does not see that seed."""
    rows = table({("own", 1, 1): 0.3, ("own", 1, 0): 0.4, ("none", 1, 1): 0.5})
    lucky = (rows["thought"] == 0) & (rows["seed"] == "0")
    rows.loc[lucky, "right_6"] = 1000
    found = contest(rows, 1)
    # seed 0 takes the sound cell, the other two the lucky one, and pay for it
    assert found.lead is not None and found.lead.value == pytest.approx((0.2 + 0.1 + 0.1) / 3, abs=1e-3)


def test_bills_are_drawn_and_the_cheapest_told() -> None:
    rows = table({("none", 2, 1): 0.1, ("own", 1, 1): 0.15, ("none", 1, 1): 0.8})
    only = table({("none", 1, r): 0.8 if r < 5 else 0.0 for r in range(6)}, noise=0.0, checkpoint="long")
    panel = night_panels.bought(rows, only)
    panel.controls["questions after the last night"].value = 64
    drawn = {trace.name: trace for trace in panel.figures["compound-bills"].data}
    assert list(drawn["one pass, R to 5"].x) == pytest.approx([(10 + 64 * (1 + r)) / 1e6 for r in range(6)])
    assert panel.sentence.count("N = 1") == 2 and "R = 5" in panel.sentence and "N = 2, R = 1" in panel.sentence
    words = night_panels.contests(rows, only)
    assert list(words.index) == [1, 8, 64, 512] and "long, facts alone, N = 1, R = 5" in words["rival"].tolist()
    assert night_panels.contests(rows, only.iloc[:0]).empty
    assert "`labkit nights nights-long-32 --passes 1`" in night_panels.bought(rows, only.iloc[:0]).sentence
