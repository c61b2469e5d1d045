"""What README and LOG say of sleep and thought is what the stored rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from labkit import sweep
from labkit.explore import night_panels
from labkit.intervals import Interval
from labkit.laws.comparing import held_out_reach
from labkit.laws.reach import reach_table
from labkit.laws.teaching import times_less
from labkit.laws.telling import verdicts
from labkit.laws.verdict import contest

ROOT = Path(__file__).resolve().parent.parent
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
LOG = " ".join((ROOT / "data" / "LOG.md").read_text(encoding="utf-8").split())


def told(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def signed(interval: Interval) -> str:
    """As the log tells leads: +1.26 [.17, 2.34]."""
    return f"{'+' * (interval.value > 0)}{told(interval.value)} [{told(interval.low)}, {told(interval.high)}]"


@pytest.fixture(scope="module")
def even() -> pd.DataFrame:
    rows = reach_table(sweep.read("arms"))
    return rows[(rows["checkpoint"] == "think-even-32") & rows["passes"].between(1, 4)]


def test_the_stored_verdicts_are_those_of_the_stored_rows() -> None:
    stored = pd.read_csv(ROOT / "data" / "results" / "verdicts.csv")
    corners = sweep.read("corners") if sweep.path_of("corners").is_file() else None
    again = verdicts(sweep.read("arms"), corners, sweep.read("long"))
    assert stored["sentence"].tolist() == again["sentence"].tolist()
    assert stored["both"].tolist() == again["both"].tolist()


def test_reaches(even: pd.DataFrame) -> None:
    mean = even.groupby(["passes", "thought"])["reach"].mean()
    one, four, two, both = (f"{mean[cell]:.1f}" for cell in ((1, 0), (4, 0), (1, 2), (4, 2)))
    beginning = f"reaches {one} hops after one pass, {four} after four, {two} with one pass and two waypoints"
    assert f"{beginning}, and {both} with both" in README
    for n in (1, 2, 4):
        assert f"N = {n}: {' '.join(f'{mean[n, r]:.2f}' for r in (0, 1, 2))}" in LOG


def test_the_product_and_the_sum(even: pd.DataFrame) -> None:
    scored = held_out_reach(even).set_index("law")
    product, total = (told(scored.loc[kind, "rms"]) for kind in ("product", "sum"))
    assert f"predicts held-out cells to {product} hops, a sum to {total}" in README
    assert f"to {product} hops [{told(scored.loc['product', 'low'])}, {told(scored.loc['product', 'high'])}]" in LOG


def test_the_verdict_s_numbers() -> None:
    row = pd.read_csv(ROOT / "data" / "results" / "verdicts.csv").set_index("model").loc["think-even-32"]
    interaction = Interval(row["interaction"], row["interaction_low"], row["interaction_high"])
    assert f"D = +{interaction.value:.2f} [{told(interaction.low)}, {told(interaction.high)}]" in LOG
    assert row["verdict"] == "undecided" and "**undecided**: more than additive" in LOG
    assert f"goes {-row['mix_1']:.1f} hops deeper" in README and f"lies {-row['mix_1']:.1f} hops behind it" in LOG
    null = f"{row['above_null']:.2f} [{row['above_null_low']:.2f}, {row['above_null_high']:.2f}]".replace("0.", ".")
    assert f"({null} above the product of its leaps)" in README and f"lies {null} above the snowball" in LOG


def test_the_contest_by_questions(even: pd.DataFrame) -> None:
    far = reach_table(sweep.read("long"))
    for questions, words in ((64, "level with it at 64"), (128, "ahead from 128 on"), (256, "at 256")):
        lead = contest(even, questions, far)
        assert lead is not None and (lead.low > 0) == (questions > 64)
        assert f"{words} ({signed(lead)}" in LOG or f"{words} {signed(lead)}" in LOG
    assert contest(even, 8, far) == contest(even, 1, far) and "with 1 to 8 questions a sleep" in LOG


def test_lessons_with_written_steps() -> None:
    for passes, words in ((4, "at least {} times more (others"), (1, "at least {} times for the third hop")):
        third = times_less(f"corner-n{passes}", f"corner-even-n{passes}").set_index("hop").loc[3]
        assert third["seeds"] == 3 and third["known"] == 0
        assert words.format(f"{third['times']:.1f}") in LOG
    assert f"at least {times_less('corner-n4', 'corner-even-n4').set_index('hop').loc[3, 'times']:.1f}" in README


def test_the_table_of_nights() -> None:
    rows = night_panels.nightly()
    assert rows["seed"].nunique() == 3 and (rows["n"] == 300).all()
    last = rows[rows["night"] == 6].groupby(["notes", "wrong", "thought", "passes"])["wrong_at_first"].mean()
    names = {"facts alone": ("none", 0.0), "facts twice": ("again", 0.0), "own thoughts": ("own", 0.0),
             "true thoughts": ("true", 0.0), "3 in 10 made wrong": ("true", 0.3),
             "all made wrong": ("true", 1.0)}  # fmt: skip
    shown = re.findall(r"\| ([a-z0-9 ]+) \| (\d) \| (\S+) \| (\S+) \| (\S+) \|", LOG)
    assert len(shown) == 8
    for name, thought, *cells in shown:
        assert cells == [told(last[(*names[name], int(thought), n)]) for n in (1, 2, 4)]


def test_what_nights_gain() -> None:
    rows = night_panels.nightly()
    for thought, before, after, words in (
        (1, ("none", 1), ("none", 2), "A second pass mends that ({}"),
        (1, ("none", 1), ("own", 1), "just as well after one pass ({}"),
        (0, ("none", 1), ("own", 1), "sleeping on them makes it worse ({})"),
        (1, ("none", 2), ("own", 1), "the difference is {} in favour of the cheaper"),
        (1, ("none", 4), ("own", 2), "without: {} at R = 1"),
        (2, ("none", 4), ("own", 2), "at R = 1, {} at R = 2"),
    ):
        found = night_panels.gain(rows, thought, before, after)
        tokens = signed(found) if "difference" in words or "R = " in words or found.value < 0 else signed(found)[1:]
        assert words.format(tokens) in LOG
    last = rows[(rows["night"] == 6) & (rows["thought"] == 1)].groupby(["notes", "wrong", "passes"])
    total = (last["flops_sleep"].first() + last["flops_think"].first()) / 1e6
    own, facts = total["own", 0.0, 1], total["none", 0.0, 2]
    assert f"cost {own:.1f} million operations for a text, facts alone at N = 2 cost {facts:.1f}" in LOG
    assert f"costs {own / facts:.1f} times the operations of the second pass" in README
    wrong = last["wrong_at_first"].mean().map(told)
    assert f"is wrong about the first day in {wrong['none', 0.0, 1]}," in README
    assert f"with a second pass in {wrong['none', 0.0, 2]}." in README
    assert f"brings one pass to {wrong['own', 0.0, 1]}." in README
    assert f"are believed ({wrong['true', 1.0, 1]})" in README


def test_search_is_beside_its_control() -> None:
    rows = pd.read_csv(ROOT / "data" / "results" / "think-even-32-search.csv")
    assert rows["seed"].nunique() == 6
    cell = ["kind", "passes", "thought", "branches", "judge_error"]
    share = rows.assign(share=rows["right_6"] / rows["n"]).groupby(cell)["share"].mean()
    chains, blind = told(share["samples", 1, 0, 16, 0.0]), told(share["guess", 1, 0, 16, 0.0])
    assert f"is right in {chains} with an oracle" in LOG and f"among 20 nodes, {blind};" in LOG
