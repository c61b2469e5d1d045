"""What README and LOG say of sleep and thought is what the stored rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from labkit import sweep
from labkit.explore import axes, night_panels
from labkit.intervals import Interval, mean_of_seeds, share_of_seeds
from labkit.laws.comparing import held_out_reach
from labkit.laws.overnight import contest as contest_of_nights
from labkit.laws.reach import reach_table
from labkit.laws.summary import summary
from labkit.laws.teaching import times_less, tokens_until
from labkit.laws.telling import verdicts
from labkit.laws.verdict import contest

from swept import signed, told_share
from swept import told as summary_told
from swept import told_value as told

ROOT = Path(__file__).resolve().parent.parent
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
LOG = " ".join((ROOT / "data" / "LOG.md").read_text(encoding="utf-8").split())


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
    far = f"{-row['mix_1']:.1f} hops [{-row['mix_1_high']:.1f}, {-row['mix_1_low']:.1f}] deeper"
    assert f"goes {far}" in README and f"lies {-row['mix_1']:.1f} hops behind it" in LOG
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
    known = {4: 2, 1: 0}
    for passes, words in ((4, "after four passes they take at least {}"), (1, "after one pass at least {} times")):
        third = times_less(f"corner-n{passes}", f"corner-even-n{passes}").set_index("hop").loc[3]
        assert third["seeds"] == 6 and third["known"] == known[passes]
        assert words.format(f"{third['times']:.1f}") in LOG
    assert f"least {times_less('corner-n4', 'corner-even-n4').set_index('hop').loc[3, 'times']:.1f} times" in README
    tokens = pd.concat([tokens_until(f"corner-even-n{n}")[3] for n in (1, 4)]) / 1e6
    assert f"{tokens.min():.1f} to {tokens.max():.1f} million tokens" in README and tokens.notna().all()


@pytest.mark.parametrize(("line", "known"), [(0.95, 1), (0.85, 5), (0.8, 5)])
def test_lessons_by_where_the_line_is_drawn(line: float, known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.laws.teaching.KNOWN", line)
    third = times_less("corner-n4", "corner-even-n4").set_index("hop").loc[3]
    assert third["known"] == known and f"{third['times']:.1f} for {told(line)}" in LOG


def test_the_table_of_nights() -> None:
    rows = night_panels.nightly()
    assert rows["seed"].nunique() == 3 and (rows["n"] == 300).all()
    last = rows[rows["night"] == 6].groupby(["notes", "wrong", "thought", "passes"])["wrong_at_first"].mean()
    names = {"facts alone": ("none", 0.0), "facts twice": ("again", 0.0), "own thoughts": ("own", 0.0),
             "true thoughts": ("true", 0.0), "3 in 10 made wrong": ("true", 0.3),
             "all made wrong": ("true", 1.0)}  # fmt: skip
    shown = re.findall(r"\| ([a-z0-9 ]+) \| (\d) \| (\S+) \| (\S+) \| (\S+) \|", LOG)
    assert len(shown) == 9
    for name, thought, *cells in shown:
        assert cells == [told(last[(*names[name], int(thought), n)]) for n in (1, 2, 4)]


def test_what_nights_gain() -> None:
    rows = night_panels.nightly()
    for thought, before, after, words in (
        (1, ("none", 1), ("none", 2), "A second pass mends that ({}"),
        (1, ("none", 1), ("own", 1), "mend it after one pass as well ({}"),
        (0, ("none", 1), ("own", 1), "At R = 0 they do not ({})"),
        (1, ("none", 4), ("own", 1), "at N = 4 (28.0): {} at R = 1"),
        (1, ("none", 8), ("own", 2), "against the untaught N = 8: {} at R = 1"),
        (2, ("none", 8), ("own", 2), "at R = 1, and {} at R = 2"),
        (2, ("none", 4), ("own", 2), "against that it is {}."),
        (1, ("none", 2), ("own", 1), "as far as three seeds can tell: {} at R = 1"),
        (1, ("again", 2), ("none", 2), "it does harm ({} more wrong at R = 1)"),
        (1, ("none", 2), ("none", 4), "N = 4 is better than N = 2 by {} at R = 1"),
    ):
        found = signed(night_panels.gain(rows, thought, before, after))
        assert words.format(found) in LOG or words.format(found.removeprefix("+")) in LOG, (words, found)
    one = rows[(rows["notes"] == "none") & (rows["passes"] == 1)]
    within = one["night"] <= one["thought"] + 1
    assert one.loc[within, "wrong_at_first"].max() < 0.005 and one.loc[~within, "wrong_at_first"].min() > 0.75
    facts = one[one["night"] == 6]
    assert (facts["old"] / facts["asked"]).min() > 0.995 and "(.00 wrong about the first day's own)" in LOG
    last = rows[(rows["night"] == 6) & (rows["thought"] == 1)].groupby(["notes", "wrong", "passes"])
    total = (last["flops_sleep"].first() + last["flops_think"].first()) / 1e6
    own, facts = total["own", 0.0, 1], total["none", 0.0, 2]
    assert f"N = 1 ({own:.1f} million operations for a text)" in LOG and f"N = 2 ({facts:.1f} million)" in LOG
    assert f"N = 4 ({total['none', 0.0, 4]:.1f})" in LOG
    assert f"for {own / facts:.1f} times the operations of two passes" in README
    wrong = last["wrong_at_first"].mean().map(told)
    assert f"reads each day once is wrong about the first day in {wrong['none', 0.0, 1]}," in README
    assert f"with a second pass in {wrong['none', 0.0, 2]}." in README
    loop = rows[(rows["night"] == 6) & (rows["thought"] == 1) & (rows["notes"] == "own") & (rows["passes"] == 1)]
    assert f"brings one pass to {told_share(share_of_seeds(loop['wrong_at_first'].tolist(), 300))}, for" in README
    assert f"made wrong leave {wrong['true', 1.0, 1]} wrong" in README


def test_what_laws_say_of_four_widths() -> None:
    rows = reach_table(sweep.read("sizes"))
    assert rows.groupby("checkpoint")["seed"].nunique().tolist() == [3] * 4
    plain = rows[rows["thought"] == 0].groupby(["passes", "params"])["reach"].mean()
    assert ", ".join(f"{r:.2f}" for r in plain[1]) in LOG and ", ".join(f"{r:.2f}" for r in plain[4]) in LOG
    assert f"four passes reach {plain[4].iloc[-1]:.1f} hops instead of {plain[4].iloc[0]:.1f}" in README
    table = pd.read_csv(ROOT / "data" / "results" / "laws-sizes.csv")
    again = summary(rows)
    pd.testing.assert_frame_equal(table, again, rtol=1e-3, atol=1e-6)
    both = summary_told(table, "size and sleep")["reach", "R = 0"]
    assert signed(both) in LOG and f"({signed(both)})" in README
    parts = summary_told(table, "explained")
    alone, split = (parts["1 question a sleep", name] for name in ("operations", "split"))
    assert f"explains {told_share(alone)} with one question" in LOG and f"adds {told_share(split)};" in LOG
    assert f"explain {told(alone.value)}, the way they are split {told(split.value)}." in README
    interaction = summary_told(table, "number")["interaction", "D"]
    assert f"Its interaction is {signed(interaction)}" in LOG
    off, gain = (summary_told(table, what)["interaction", "rms"] for what in ("held out", "gain"))
    assert f"off by {told_share(off)} (with an interaction)" in LOG and f"than that ({told_share(gain)})" in LOG


def test_look_ups_against_sleep() -> None:
    rows = pd.read_csv(ROOT / "data" / "results" / "archive-32-lookups.csv")
    assert rows["seed"].nunique() == 3 and (rows["n"] == 300).all()
    cell = ["passes", "thought", "lookups", "chooser_error"]
    first, second, third = (
        rows.assign(share=rows[f"right_{hop}"] / rows["n"]).groupby(cell)["share"].mean() for hop in (1, 2, 3)
    )
    errs, blind = told(first[0, 0, 1, 0.3]), told(first[0, 0, 1, 1.0])
    assert f"never errs, {errs} if it errs in 3 of 10 windows, {blind} if it is blind" in LOG
    assert f"second\nhop right in {told(second[0, 2, 2, 0.0])}".replace("\n", " ") in LOG
    assert f"the third in {told(third[0, 2, 4, 0.0])}" in LOG and min(third[1, 2, 0, 0.0], second[1, 2, 0, 0.0]) > 0.995
    assert f"two written steps two ({told(second[0, 2, 2, 0.0])};" in README
    asked = rows.assign(share=rows[[f"right_{h}" for h in range(1, 11)]].sum(axis=1) / (10 * rows["n"]))
    part = asked[(asked["thought"] == 0) & (asked["chooser_error"] == 0)]
    square = part.pivot_table(index="seed", columns=["passes", "lookups"], values="share")
    look, sleep = (mean_of_seeds((square[cell] - square[1, 0]).tolist()) for cell in ((1, 1), (2, 0)))
    assert f"first look-up adds {signed(look)} after one pass at R = 0, a second pass {signed(sleep)}." in LOG


def test_the_question_known_before_sleep() -> None:
    rows = reach_table(sweep.read("controls"))
    part = rows[rows["checkpoint"] == "think-foretold-32"]
    table = part.pivot_table(index="seed", columns=["asked", "thought", "passes"], values="reach")
    assert len(table) == 3
    gains = [
        signed(mean_of_seeds((table["before", r, n] - table["after", r, n]).tolist())) for r in (0, 2) for n in (1, 4)
    ]
    alone, at_four, with_two, both = gains
    assert f"is {alone} at N = 1 and {at_four} at N = 4 for R = 0, and {with_two} and {both} for R = 2." in LOG


def test_the_cache_kept() -> None:
    controls, arms = (reach_table(sweep.read(name)) for name in ("controls", "arms"))
    kept, slept = (
        rows[(rows["checkpoint"] == name) & (rows["thought"] == 0)].pivot_table("reach", "seed", "passes")
        for rows, name in ((controls, "think-keep-32"), (arms, "think-even-32"))
    )
    assert len(kept) == 3
    for passes, words in ((1, "reaches {:.2f} hops after one pass"), (4, "and {:.2f} after four")):
        value, low, high = mean_of_seeds(kept[passes].tolist())
        assert f"{words.format(value)} [{told(low)}, {told(high)}]" in LOG
        lead = mean_of_seeds((kept[passes] - slept[passes]).dropna().tolist())
        assert f"{signed(lead)} at N = {passes}" in LOG


def test_search_is_beside_its_control() -> None:
    rows = pd.read_csv(ROOT / "data" / "results" / "think-even-32-search.csv")
    assert rows["seed"].nunique() == 6
    cell = ["kind", "passes", "thought", "branches", "judge_error"]
    share = rows.assign(share=rows["right_6"] / rows["n"]).groupby(cell)["share"].mean()
    chains, blind = told(share["samples", 1, 0, 16, 0.0]), told(share["guess", 1, 0, 16, 0.0])
    assert f"is right in {chains} with an oracle" in LOG and f"among 20 nodes, {blind};" in LOG


def test_what_a_step_of_thought_is() -> None:
    rows = axes.swept()
    told = pd.read_csv(ROOT / "data" / "results" / "verdicts.csv").set_index("model")
    assert told["seeds"].to_dict() == {f"think-{arm}-32": n for arm, n in
                                       (("even", 6), ("filler", 3), ("loops", 6), ("single", 6))}  # fmt: skip
    loops = told.loc["think-loops-32"]
    assert "({:.2f} [{:.2f}, {:.2f}] hops beyond the sum)".format(
        *(loops[f"interaction{end}"] for end in ("", "_low", "_high"))
    ).replace("0.", ".") in README
    looped = rows[rows["checkpoint"] == "think-loops-32"].pivot_table(
        index="seed", columns=["passes", "thought"], values="reach"
    )
    assert ((looped[1, 2] - looped[1, 0]) > 0.5).sum() == 4, "loops are learned in four seeds of six"


def test_a_rival_that_only_thinks() -> None:
    nights, thinkers = night_panels.nightly(), night_panels.nightly(night_panels.LONG)
    alone = thinkers[(thinkers["notes"] == "none") & (thinkers["passes"] == 1)]
    back = alone["thought"] + 1
    near = alone[alone["night"] <= back]
    assert near["asked"].sum() == 94_500 and (near["wrong_at_first"] * near["asked"]).sum() == pytest.approx(1)
    assert (alone.loc[alone["night"] > back, "wrong_at_first"] > 0.75).all()
    found = {q: contest_of_nights(nights, q, thinkers) for q in (1, 8, 64, 512)}
    assert [c.verdict for c in found.values()] == ["beaten"] * 3 + ["undecided"]
    lead = found[64].lead
    assert lead is not None
    assert f"({told(-lead.value)} [{told(-lead.high)}, {told(-lead.low)}] less wrong" in README
