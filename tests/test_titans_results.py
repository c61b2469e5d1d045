"""What data/RESULTS.md says of needles, documents and two million tokens is what the stored rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit import haystack
from labkit.checkpoints import list_checkpoints
from labkit.explore.haystacks import MODELS, pooled, stored_lengths

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "data" / "RESULTS.md").read_text(encoding="utf-8").split("## Needles in haystacks")[1]


def figure(share: float) -> str:
    return re.sub(r"^0\.", ".", f"{share:.2f}")


def table_of(heading: str) -> list[list[str]]:
    """The cells of the table that follows this line, without its head."""
    after = TEXT.split(f"\n{heading}\n")[1].strip().split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in after.split("\n")][2:]


@pytest.mark.parametrize(
    ("variant", "heading"), [("passkey", "Pass-keys:"), ("number", "Numbers:"), ("word", "Words:")]
)
def test_the_tables_of_needles_are_the_stored_rows(variant: str, heading: str) -> None:
    rows = stored_lengths()
    shown = pooled(rows[(rows["variant"] == variant) & (rows["needles"] == 1)])
    told = {cells[0]: cells[1:] for cells in table_of(heading)}
    assert list(told) == [MODELS[name] for name in MODELS if name in set(shown["checkpoint"])]
    for name, called in MODELS.items():
        own = shown[shown["checkpoint"] == name].sort_values("length")
        if len(own):
            assert own["length"].tolist() == list(haystack.LENGTHS)
            seeds = set(rows[rows["checkpoint"] == name]["seed"]) - {"all"}
            assert seeds == {str(seed) for other, seed in list_checkpoints() if other == name}
            cells = [f"{figure(r.accuracy)} [{figure(r.low)}, {figure(r.high)}]" for r in own.itertuples()]
            assert told[called] == [str(len(seeds)), *cells]


def test_what_is_said_of_many_facts() -> None:
    rows = stored_lengths(["titans-lmm", "titans-mac"]).query("variant == 'passkey' and length == 1024")
    for name, seed in (("titans-lmm", "all"), ("titans-mac", "0")):
        own = rows[(rows["checkpoint"] == name) & (rows["seed"] == seed)].set_index("needles")
        told = [figure(own.loc[count, "accuracy"]) for count in (4, 16, 64)]
        assert "{} of four, {} of sixteen, {} of sixty-four".format(*told) in " ".join(TEXT.split())


def test_what_is_said_of_the_control_and_of_seeds() -> None:
    control = stored_lengths(["titans-lmm"], writes=False).query("variant == 'passkey' and seed == 'all'")
    assert f"finds {figure(control['accuracy'].item())} of pass-keys." in " ".join(TEXT.split())
    rows = stored_lengths(["titans-mac"]).query("variant == 'passkey' and length == 1024 and needles == 1 and writes")
    told = [figure(rows.set_index("seed").loc[seed, "accuracy"]) for seed in "012"]
    assert "its three seeds find {}, {} and {} of pass-keys".format(*told) in " ".join(TEXT.split())
