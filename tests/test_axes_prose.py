"""What the log and notebooks 04 and 05 say in sentences is what the stored rows say; see also test_axes_results.py."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from labkit import sweep
from labkit.checkpoints import list_checkpoints, read_card
from labkit.explore import axes, night_panels
from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.reach import reach_table
from labkit.laws.telling import specialists
from labkit.laws.verdict import corner_values, difference_of_differences
from labkit.search import tree_lead

from swept import signed, told_share, told_value

ROOT = Path(__file__).resolve().parent.parent


def prose(path: Path) -> str:
    """A text, or the Markdown of a notebook, in one line."""
    if path.suffix == ".md":
        return " ".join(path.read_text(encoding="utf-8").split())
    cells = nbformat.read(path, as_version=4).cells
    return " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())


README, LOG = prose(ROOT / "README.md"), prose(ROOT / "data" / "LOG.md")
RESULTS = prose(ROOT / "data" / "RESULTS.md")
AXES = prose(ROOT / "notebooks" / "04_scaling_axes.ipynb")
COMPOUNDING = prose(ROOT / "notebooks" / "05_compounding.ipynb")


def interval(row: pd.Series, name: str) -> Interval:
    return Interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))


def test_what_has_to_go_from_pass_to_pass() -> None:
    rows = reach_table(sweep.read("carries"))
    mean = rows.groupby(["carry", "passes", "thought"])["reach"].mean()
    plain, thinking = (f"{mean['state', 4, r]:.2f}" for r in (0, 2))
    kept, with_thought = (f"{mean['both', 4, r]:.2f}" for r in (0, 2))
    assert f"reach {plain} at N = 4 and R = 0 instead of {kept}, {thinking} instead of {with_thought} with R = 2" in LOG
    seeds = rows[rows["thought"] == 0].pivot_table(index="seed", columns=["carry", "passes"], values="reach")
    assert (seeds["hidden", 4] < seeds["hidden", 1]).sum() == 5 and len(seeds) == 6
    assert f"({told_value(mean['hidden', 4, 0])} at N = 4) in five seeds of six" in LOG


def test_what_a_tree_wins() -> None:
    leads = tree_lead(axes.searched()).set_index(["branches", "kept", "passes", "thought", "judge_error"])
    lead = {cell: signed(Interval(*row)) for cell, row in leads[["lead", "low", "high"]].iterrows()}
    assert f"with an oracle {lead[16, 4, 1, 1, 0.0]} more right at N = 1 and R = 1, {lead[16, 4, 4, 2, 0.0]}" in LOG
    assert f"errs 1 time in 10 {lead[16, 4, 1, 1, 0.1]} and {lead[16, 4, 4, 2, 0.1]}; 3 in 10" in LOG
    assert f"3 in 10 {lead[16, 4, 1, 1, 0.3]} and {lead[16, 4, 4, 2, 0.3]}." in LOG
    assert f"({lead[16, 4, 1, 1, 0.0]} with an oracle, {lead[16, 4, 1, 1, 0.3]} with a judge" in README
    asked = leads.loc[(16, 4)][["judged", "judged_chains"]].drop_duplicates()
    assert asked.to_numpy().tolist() == [[32, 4], [48, 4]] and "its judge 32 or 48 candidates for the 4" in LOG


@pytest.mark.parametrize(("text", "words"), [(LOG, "told"), (COMPOUNDING, "shown")])
def test_rule_110_with_thought(text: str, words: str) -> None:
    rows = axes.swept("automaton")
    mean = rows.groupby(["checkpoint", "passes", "thought"])["reach"].mean()
    small, large = ([f"{mean[f'think-rule110-{w}', n, 0]:.2f}" for n in (1, 4)] for w in (32, 64))
    stored = pd.read_csv(ROOT / "data" / "results" / "verdicts-automaton.csv").set_index("model")
    assert stored["verdict"].eq("dead").all() and "above_null" not in stored
    falls = [signed(interval(stored.loc[f"think-rule110-{width}"], "thought")) for width in (64, 32)]
    after = rows[(rows["thought"] > 0) & rows["passes"].between(1, 4)]
    after = after.groupby(["checkpoint", "passes", "thought"])["right_1"].mean() / after["n"].iloc[0]
    ends = f"{told_value(after.min())} to {told_value(after.max())}"
    if words == "told":
        assert f"reaches {large[0]} steps after one pass and {large[1]} after four" in text
        assert f"the narrower {small[0]} and {small[1]}" in text and f"the very next step {ends} of the cells" in text
        assert f"({falls[0]} and {falls[1]}, neither sure)" in text
    else:
        assert f"reach {small[0]} steps after one pass and {small[1]} after four at width 32, {large[0]} and" in text
        assert f"have {ends} of the cells of the very next step" in text and "is *dead* by the letter" in text


@pytest.fixture(scope="module")
def corners() -> dict[str, pd.DataFrame]:
    """Reach of specialists by arm: a row for each seed and a column for each corner."""
    rows = reach_table(sweep.read("corners"))
    return {arm: corner_values(part) for arm in axes.ARMS if (part := specialists(rows, arm)) is not None}


@pytest.mark.parametrize("arm", axes.ARMS)
def test_the_table_of_specialists(corners: dict[str, pd.DataFrame], arm: str) -> None:
    own, found = corners[arm], re.findall(r"\| ([a-z ]+) \| (\d) \| ([\d. ]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", LOG)
    cells = next(row[1:] for row in found if row[0] in axes.ARMS[arm])
    means = " ".join(f"{own[cell].mean():.2f}" for cell in ((1, 0), (4, 0), (1, 2), (4, 2)))
    moves = (own[4, 0] - own[1, 0], own[1, 2] - own[1, 0], own[4, 2] - own[1, 2])
    assert cells == (str(len(own)), means, *(signed(mean_of_seeds(move.tolist())) for move in moves))


def test_what_specialists_of_waypoints_say(corners: dict[str, pd.DataFrame]) -> None:
    even = corners["even"]
    alone, with_thought = (signed(mean_of_seeds((even[4, r] - even[1, r]).tolist())) for r in (0, 2))
    assert len(even) == 6
    assert f"reach by {alone} and no interaction is told" in README and f"go {with_thought} deeper than one" in README
    assert f"reach by {alone}, which is not sure" in COMPOUNDING and f"{with_thought} hops deeper" in COMPOUNDING
    assert ", ".join(f"{reach:.2f}" for reach in even[4, 0]) in LOG
    assert f"would be {signed(difference_of_differences(even))}." in LOG
    told = pd.read_csv(ROOT / "data" / "results" / "verdicts.csv").set_index("model")
    assert told["specialists"].eq("dead").all() and told["specialists_seeds"].tolist() == [6, 3, 3, 3]
    elastic = told.loc["think-even-32"]
    prices = [signed(interval(elastic, f"price_{n}_{r}")) for n, r in ((1, 0), (4, 0), (1, 2), (4, 2))]
    assert "{}, {}, {} and {}: nothing that is sure".format(*prices) in LOG
    assert f"({signed(interval(told.loc['think-loops-32'], 'price_1_2'))}, not sure with three seeds)" in LOG
    assert (corners["loops"][1, 2] - corners["loops"][1, 0] > 0.5).all()  # all three use their loops
    assert f"{even[4, 2].min():.2f} to {even[4, 2].max():.2f}, where one pass reaches" in RESULTS


def test_what_is_forgotten_over_the_nights() -> None:
    rows = night_panels.nightly()
    rows = rows.assign(kept=rows["old"] / rows["asked"])
    kept = night_panels.last_night(rows, 1, "kept")
    plain = kept.loc[["facts alone", "own thoughts", "true thoughts"], ["N = 1", "N = 2", "N = 4", "N = 8"]].map(first)
    assert plain["N = 1"].eq(1).all() and plain.min().min() == 0.99 and "it is .99 or more" in LOG
    some, every = (plainly(kept.loc[way, "N = 1"]) for way in ("3 in 10 wrong", "all wrong"))
    assert f"with 3 notes in 10 wrong {some}, with all wrong {every}." in LOG
    later = kept.loc[["3 in 10 wrong", "all wrong"], ["N = 2", "N = 4", "N = 8"]].map(first)
    assert later.loc["3 in 10 wrong"].eq(0.96).all() and later.loc["all wrong"].between(0.86, 0.87).all()


def test_what_all_of_it_cost() -> None:
    cards = [read_card(*model) for model in list_checkpoints()]
    hours: Counter[str] = Counter()
    for card in cards:
        hours[card["name"].split("-")[0]] += card.get("train_seconds", 0) / 3600
    told = [f"{hours[kind]:.1f}" for kind in ("corner", "think", "nights", "archive")]
    whole = sum(hours[kind] for kind in ("corner", "think", "nights", "archive"))
    assert f"took {whole:.1f} hours" in LOG
    assert "(corners {}, elastic models and rivals {}, nights {}, archive {})".format(*told) in LOG


def test_how_often_intervals_hold_the_truth() -> None:
    found = pd.read_csv(ROOT / "data" / "results" / "laws-recovery.csv")
    held = {seeds: part["covered"] for seeds, part in found.groupby("seeds")}
    ends = {s: f"{told_thousandths(c.min())} to {told_thousandths(c.max())}" for s, c in held.items()}
    assert f"with six seeds the 33 numbers are held in {ends[6]} of the tables, with three in {ends[3]}." in LOG
    wide = found[(found["seeds"] == 3) & (found["covered"] > 0.98)]
    assert len(held[3]) == len(held[6]) == 33 and wide["covered"].eq(0.985).all()
    assert wide[["law", "number"]].to_numpy().tolist() == [["multiplicative", "a"], ["interaction", "E"]]
    assert "two numbers of 33 are a little too wide: .985" in COMPOUNDING and "than .98, in .985," in LOG


def test_single_hops() -> None:
    mean = axes.swept().query("checkpoint == 'think-single-32'").groupby(["passes", "thought"])["reach"].mean()
    one, four = ([f"{mean[n, r]:.2f}" for r in (0, 2)] for n in (1, 4))
    assert f"from {one[0]} to {one[1]} after one pass and from {four[0]} to {four[1]} after four" in LOG


def test_whose_step_of_thought_it_is() -> None:
    whose = night_panels.thinking_and_answering(night_panels.nightly(apart=True)).map(plainly)
    both, notes, answers = (
        whose.loc[f"notes, R = {w}", f"answers, R = {a}"] for w, a in ((1, 1), (1, 0), (0, 1))
    )
    assert f"{both} with a step for the notes and one for the answers, {notes} with a step for the notes alone" in LOG
    assert f"{answers} with one for the answers alone" in LOG


def test_whether_wrong_notes_are_believed() -> None:
    rows = night_panels.nightly()
    all_wrong, some = (night_panels.misled(rows, 1, wrong).map(plainly) for wrong in (1.0, 0.3))
    believed = all_wrong.loc["answered as the wrong note says", "N = 1"]
    assert f"{believed} are answered just as the note says after one pass with R = 1" in LOG
    assert f"answered word for word, {believed} of the time" in COMPOUNDING
    assert f"({some.loc['answered as the wrong note says', 'N = 1']} with 3 notes in 10 wrong" in LOG
    around = [night_panels.misled(rows, 2, wrong).map(plainly)["N = 1"] for wrong in (1.0, 0.3)]
    assert f"With R = 2 it is {around[0].iloc[0]}, and yet" in LOG
    assert f"of 3 in 10 wrong ones {around[1].iloc[1]} are right all the same" in LOG
    last = rows[(rows["night"] == 6) & (rows["passes"] == 1) & (rows["notes"] == "true") & (rows["wrong"] > 0)]
    wrong = last.groupby(["wrong", "thought"])["wrong_at_first"].mean().map(told_value)
    assert wrong[1.0, 2] == wrong[1.0, 1] and f"({wrong[1.0, 2]} with all notes wrong, {wrong[0.3, 2]} for" in LOG
    shares = {wrong: pd.concat([night_panels.misled(rows, r, wrong).map(first) for r in (0, 1, 2)], keys=(0, 1, 2))
              for wrong in (1.0, 0.3)}  # fmt: skip
    several = pd.concat([table[["N = 2", "N = 4", "N = 8"]] for table in shares.values()]).xs(
        "answered as the wrong note says", level=1
    )
    assert f"more {told_value(several.min().min())} to {told_value(several.max().max())} are answered" in LOG
    right = shares[0.3][["N = 2", "N = 4", "N = 8"]].xs("right all the same", level=1)
    assert f"wrong ones {told_value(right.min().min())} to {told_value(right.max().max())} come out right" in LOG
    right = shares[1.0][["N = 2", "N = 4", "N = 8"]].xs("right all the same", level=1)
    assert f"of all wrong ones {told_value(right.min().min())} to {told_value(right.max().max())}." in LOG


def plainly(cell: str) -> str:
    """A cell of a table as the log writes it: .15 [.00, .36]."""
    value, low, high = (float(part.strip("[],")) for part in cell.split())
    return told_share(Interval(value, low, high))


def first(cell: str) -> float:
    return float(cell.split()[0])


def told_thousandths(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")
