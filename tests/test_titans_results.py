"""What data/RESULTS.md says of needles, documents and two million tokens is what the stored rows say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from labkit import bits, haystack, results
from labkit.checkpoints import list_checkpoints, load, read_card
from labkit.explore import order
from labkit.explore.haystacks import MODELS, VARIANTS, pooled, settings, stored_lengths, stored_streams
from labkit.explore.long_runs import stored_run
from labkit.explore.pairs_and_bytes import KINDS, fewer_than_window, stored_bits, stored_pairs
from labkit.explore.titans_ablations import PARTS
from labkit.tasks import Needle

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "data" / "RESULTS.md").read_text(encoding="utf-8").split("## Needles in haystacks")[1]
WORDS = " ".join(TEXT.split())


def figure(share: float) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{share:.2f}")


def cell(row: Any) -> str:
    return f"{figure(row.accuracy)} [{figure(row.low)}, {figure(row.high)}]"


def table_of(heading: str, text: str = TEXT) -> dict[str, list[str]]:
    """The cells of the table that follows a line that ends like this, by the first of each row; the head is "head"."""
    lines = text.split(f"{heading}\n")[1].strip().split("\n\n")[0].split("\n")
    head, _, *rows = ([part.strip() for part in line.strip("|").split("|")] for line in lines)
    return {"head": head[1:]} | {cells[0]: cells[1:] for cells in rows}


@pytest.mark.parametrize(
    ("variant", "heading"), [("passkey", "Pass-keys:"), ("number", "Numbers:"), ("word", "Words:")]
)
def test_the_tables_of_needles_are_the_stored_rows(variant: str, heading: str) -> None:
    names = MODELS | {name: called for name, (_, called) in VARIANTS.items()}
    rows = stored_lengths(names).query("needles == 1 and variant == @variant")
    told = table_of(heading)
    assert sorted(list(told)[1:]) == sorted(names.values())
    for name, called in names.items():
        every = rows[rows["checkpoint"] == name]
        own = pooled(every).sort_values("length")
        assert own["length"].tolist() == list(haystack.LENGTHS)
        seeds = set(every["seed"]) - {"all"}
        assert seeds == {str(seed) for other, seed in list_checkpoints() if other == name}
        counts = [int(n) for n in re.findall(r"\d+", told[called][1])]
        assert set(counts) == set(every.query("seed != 'all'")["n"])
        assert told[called][0] == str(len(seeds)) and told[called][2:] == [cell(row) for row in own.itertuples()]
        weights = {str(seed): read_card(name, seed)["sha256"][:12] for seed in map(int, seeds)}
        assert dict(zip(every["seed"], every["weights"], strict=True)).items() >= weights.items()


def test_the_table_of_many_facts_and_that_of_nothing_written() -> None:
    rows = pooled(stored_lengths()).query("variant == 'passkey' and length == 1024")
    told = table_of("Many facts in one pass-key haystack of 1,024 tokens (`--needles 4` and so on), each asked alone:")
    for name, called in MODELS.items():
        own = rows[rows["checkpoint"] == name].set_index("needles")
        assert told[called] == [cell(own.loc[count]) for count in (1, 4, 16, 64)]
    rows = pooled(stored_lengths(writes=False)).query("length == 1024")
    told = table_of("Nothing written (`--no-writing`: every step at zero, 1,024 tokens):")
    for name in ("titans-lmm", "titans-mac", "titans-mag", "titans-mal"):
        own = rows[rows["checkpoint"] == name].set_index("variant")
        assert told[MODELS[name]] == [cell(own.loc[variant]) for variant in ("passkey", "number", "word")]


def test_the_table_of_costs_is_that_of_cards_and_rows() -> None:
    rows = stored_lengths().query("length == 1024 and needles == 1 and seed == '0'").set_index("checkpoint")
    told = table_of("What they cost, and how well their lessons were learned:")
    for name, called in MODELS.items():
        model, card = load(name, 0)
        lessons = [read_card(n, s)["metrics"]["lesson_accuracy"][0] for n, s in list_checkpoints() if n == name]
        read = rows.loc[name, "flops_sleep"].iloc[0]
        weights, fast, carried, reading, training, learned = told[called]
        assert weights == f"{card['parameters']:,}" and learned == " ".join(map(figure, lessons))
        state = model.init_state(1)
        for window in torch.zeros(1, 192, dtype=torch.int64).split(64, dim=1):
            state = model.sleep(window, state, 1)
        assert fast == f"{model.config.state_size:,}" and carried == f"{state.nbytes // 4:,}"
        assert reading == f"{read / 1e9:.2f} G" and training == f"{card['train_flops'] / 1e12:.1f} T"


def test_the_table_of_the_stream_is_the_stored_rows() -> None:
    rows = stored_streams()
    told = table_of("lets `needle-cache` read that one again (`--archive`).")
    rows = rows.assign(reader=rows["checkpoint"].map(MODELS).where(~rows["archive"], "BM25 and a reader"))
    for reader, own in pooled(rows, by="reader").groupby("reader"):
        by_age = own.set_index("age")
        assert told[str(reader)] == [cell(by_age.loc[age]) for age in told["head"]]
    assert len(told) == 1 + rows["reader"].nunique()


def test_the_table_of_two_million_tokens_is_the_stored_run() -> None:
    told, rows = table_of("are asked for, and in a fork sixteen fresh ones."), stored_run()
    assert sorted(set(rows["seed"])) == ["0", "1", "2"] and set(rows["hay_tokens"]) == {2392065}
    for tokens, every in rows.groupby("tokens"):
        shares = [" ".join(map(figure, every.sort_values("seed")[f"{key}_value"])) for key in ("start", "fresh")]
        row = every[every["seed"] == "0"].iloc[0]
        sizes = [f"{row.state_bytes / 1024:,.0f}", f"{row.resident_bytes / 2**20:,.0f}"]
        assert told[f"{tokens:,}"] == [*shares, *sizes, f"{row.tokens_per_second:,.0f}"]


def test_the_table_of_pairs_is_the_stored_answers() -> None:
    told, rows = table_of("Cells: share right [95% interval over contexts]."), stored_pairs()
    assert list(told)[1:] == list(KINDS.values())
    for kind, called in KINDS.items():
        whole = results.read(ROOT / "data" / "results" / f"mqar-{kind}.csv").query("passes == 1").iloc[0]
        card = read_card(f"mqar-{kind}", 0)
        windows = [cell(row) for row in rows[rows["kind"] == kind].sort_values("windows").itertuples()]
        ends = [f"{card['parameters']:,}", f"{whole.flops_sleep / 1e6:.0f} M"]
        assert told[called] == [cell(whole), *windows, *ends] and whole.n == 300
        assert whole.weights == card["sha256"][:12]


def test_the_table_of_prose_is_the_stored_rows() -> None:
    told, rows = table_of("Cells: bits per byte [95% interval over stretches of 4 KiB]."), stored_bits()
    assert list(told)[1:] == list(KINDS.values())
    for kind, called in KINDS.items():
        card, own = read_card(f"text-{kind}", 0), rows[rows["kind"] == kind].sort_values("read")
        cells = [f"{row.bits:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in own.itertuples()]
        assert told[called] == [*cells, f"{card['parameters']:,}"] and set(own["weights"]) == {card["sha256"][:12]}
    assert told["head"][:-1] == [f"{read:,}" for read in bits.READ]
    fewer = fewer_than_window(rows).itertuples()
    paired = [f"{row.Index} {row.fewer:+.2f} [{row.low:+.2f}, {row.high:+.2f}]".replace("0.", ".") for row in fewer]
    assert ", ".join(paired) in WORDS
    if sys.version_info[:2] == (3, 11):  # the text is that of the Python that runs
        needed, tool = bits.compressed()
        assert f"{tool}, the better of two compressors, needs {needed:.2f}" in WORDS
        hay = Needle(64, 1, "number").haystack(held_out=True)
        assert f"held out: {len(hay):,} tokens" in WORDS


@pytest.mark.parametrize(("variant", "heading"), [("passkey", "Pass-keys:"), ("number", "Numbers:")])
def test_the_tables_of_ablations_and_the_order_are_the_stored_rows(variant: str, heading: str) -> None:
    rows, kinds = settings(stored_lengths(PARTS))
    shown = pooled(rows[rows["variant"] == variant])
    told = table_of(heading, TEXT.split("## What each part")[1])
    assert told["head"] == kinds and len(told) == 1 + len(PARTS)
    for name, called in PARTS.items():
        own = shown[shown["checkpoint"] == name].set_index("setting")
        called += " (one seed)" if set(own["seed"]) == {"0"} else ""
        assert told[called] == [cell(own.loc[kind]) for kind in kinds]
    more = order.gained(stored_lengths(order.ORDERS), variant)
    signs = [f"{at}: {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]".replace("0.", ".") for at, e in more.iterrows()]
    assert ", ".join(signs) in WORDS


def test_what_looking_up_costs_is_what_the_rows_say() -> None:
    rows = stored_streams().query("seed == '0'").drop_duplicates(["checkpoint", "archive"])
    costs = rows.set_index(["checkpoint", "archive"])[["flops_document", "flops_question"]] / 1e6
    heart, archive = costs.loc[("titans-lmm", False)], costs.loc[("needle-cache", True)]
    even = heart["flops_document"] / (archive["flops_question"] - heart["flops_question"])
    told = f"for {heart['flops_document']:.1f} million FLOPs and answers a question for {heart['flops_question']:.1f}"
    assert told in WORDS and f"needs {archive['flops_question']:.1f} for a question" in WORDS
    assert f"(they cost the same at {even:.2f} questions a document)" in WORDS


def test_what_is_said_of_single_seeds_and_of_two_passes() -> None:
    rows = stored_lengths(["titans-mag"]).query("variant == 'word' and length == 16384 and seed != 'all'")
    told = [figure(share) for share in rows.sort_values("seed")["accuracy"]]
    assert "MAG's seeds differ in words: {}, {} and {} at 16,384".format(*told) in WORDS
    twice: pd.DataFrame = pooled(stored_lengths(["needle-sleep"], passes=2)).query("length == 16384")
    told = [figure(twice.set_index("variant").loc[variant, "accuracy"]) for variant in ("passkey", "number", "word")]
    assert "finds {}, {} and {} of pass-keys, numbers and words at 16,384".format(*told) in WORDS


def test_what_the_readme_says_of_needles() -> None:
    brief = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    rows = pooled(stored_lengths()).set_index(["checkpoint", "variant", "needles", "length"])["accuracy"]
    for name in ("titans-lmm", "titans-mac", "titans-mag", "titans-mal"):
        assert rows[name, "passkey", 1, 16384] == rows[name, "number", 1, 16384] == 1
    near, far, numbers = (
        figure(rows["needle-delta", variant, 1, length])
        for variant, length in (("passkey", 4096), ("passkey", 16384), ("number", 16384))
    )
    assert f"finds {near} of pass-keys at 4,096, {far} at 16,384, and {numbers} of numbers there" in brief
    seeing = pooled(stored_lengths(VARIANTS)).query("length == 16384")["accuracy"]
    *sure, words = sorted(seeing, reverse=True)
    assert len(sure) == 2 and min(sure) > 0.995 and "gated delta finds all of both as well" in brief
    theirs = figure(rows["titans-lmm", "word", 1, 16384])
    assert f"and {figure(words)} of words (LMM {theirs}; three seeds each)" in brief
    whole = pooled(stored_lengths()).set_index(["checkpoint", "variant", "needles", "length"])
    many = [
        "{} [{}, {}]".format(*map(figure, whole.loc[(name, "passkey", 64, 1024), ["accuracy", "low", "high"]]))
        for name in ("needle-sleep", "needle-delta", "titans-lmm")
    ]
    assert "the sleeping hybrid recalls {}, gated delta {}, LMM {} (three seeds each)".format(*many) in brief
    streams = pooled(stored_streams(), by="checkpoint").query("not archive and age == 'document 5 after 150'")
    assert f"no memory here recalls more than {figure(streams['accuracy'].max())}." in brief
