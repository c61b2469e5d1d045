"""What the README says of depo-elastic and depo-n1 is what the stored rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from labkit import results
from labkit.explore.mind import reach

ROOT = Path(__file__).resolve().parent.parent
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split("## What came out so far")[1].split())


def rows(name: str, *, pooled: bool) -> pd.DataFrame:
    table = results.read(ROOT / "data" / "results" / f"{name}.csv")
    return table[(table["seed"] == results.POOLED) == pooled]


def figure(x: float, digits: int = 2) -> str:
    """As the README writes shares: .92, 1.00, -.0005."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{x:.{digits}f}")


def test_the_readmes_table_is_the_stored_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## What came out so far")[1]
    shown = {
        (int(row.split("|")[1]), depth): cell.strip()
        for row in re.findall(r"^\| \d+ \|.*\|$", text, flags=re.MULTILINE)
        for depth, cell in enumerate(row.split("|")[2:-1], start=1)
    }
    stored = rows("depo-elastic", pooled=True)
    assert shown == {(int(r.passes), int(r.depth)): figure(r.accuracy, 3) for r in stored.itertuples()}
    assert len(shown) == 88


def test_the_readmes_sentences_are_the_stored_ones() -> None:
    pooled, single = rows("depo-elastic", pooled=True), rows("depo-elastic", pooled=False)
    far = pooled[(pooled["passes"] == 8) & (pooled["depth"] == 8)].iloc[0]
    ends = f"{figure(far['vs_one_low'])} to {figure(far['vs_one_high'])}"
    assert f"N = 8 beats N = 1 by {figure(far['vs_one'])} (95% interval over the three seeds: {ends})" in TEXT
    within = single[(single["passes"] >= 2) & (single["passes"] <= 6)]
    assert f"from N = 1 to 2 and on to 6, is {figure(within['gain'].min(), 4)}." in TEXT
    three = single[single["passes"] == 3]
    assert f"({figure(three['accuracy'].min(), 3)} is the lowest share there)" in TEXT
    two = single[single["passes"] == 2].sort_values("depth").groupby("seed")["accuracy"]
    depths = sorted(reach(shares.to_numpy()) for _, shares in two)
    assert f"is {depths[0]}, {depths[1]} or {depths[2]} hops, by seed" in TEXT
    worst = [figure(x) for x in single[single["passes"] == 16].groupby("seed")["accuracy"].min()]
    assert f"at N = 16 the worst hop is down to {worst[0]}, {worst[1]} and {worst[2]}" in TEXT
    last = single[(single["passes"] == 64) & (single["depth"] == 8)]["accuracy"].max()
    # rounded up, since it is an upper end
    assert f"by N = 64 all three are at {figure(last + 0.005)} or less at 8 hops" in TEXT


def test_what_the_readme_says_of_the_specialist_of_one_pass() -> None:
    stored = rows("depo-n1", pooled=True).query("passes == 1").sort_values("depth")["accuracy"].tolist()
    assert f"{' '.join(map(figure, stored[:4]))} at 1 to 4 hops, then guessing" in TEXT
    assert max(stored[4:]) < 0.1
