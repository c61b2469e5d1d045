"""The table in the README is the stored one, over all seeds."""

from __future__ import annotations

import re
from pathlib import Path

from labkit import results

ROOT = Path(__file__).resolve().parent.parent


def test_the_readmes_table_is_the_stored_one() -> None:
    stored = results.read(ROOT / "data" / "results" / "depo-elastic.csv").query("seed == @results.POOLED")
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## What came out so far")[1]
    shown = {
        (int(row.split("|")[1]), depth): float(cell)
        for row in re.findall(r"^\| \d+ \|.*\|$", text, flags=re.MULTILINE)
        for depth, cell in enumerate(row.split("|")[2:-1], start=1)
    }
    rows = {(int(r.passes), int(r.depth)): round(float(r.accuracy), 3) for r in stored.itertuples()}
    assert shown == rows and len(shown) == 72
