"""What notebook 03 shows: surprise, chunks, divergence, data flow, needles; each figure against what it stands for."""

from __future__ import annotations

from pathlib import Path

import needle_models
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from labkit.checkpoints import load
from labkit.explore import (
    chunks,
    dataflow,
    divergence,
    haystacks,
    long_runs,
    needles,
    order,
    surprise,
    titans_ablations,
)
from labkit.explore.surprise import Knobs, read_text
from labkit.kernels.titans import recurrent_neural_memory
from labkit.models.titans import Titans


def test_surprise_is_the_norm_of_the_gradient_letter_by_letter() -> None:
    """Once more with PyTorch's gradient, one letter after the other."""
    text, knobs = "abcabcabd abc", Knobs(step=0.3, momentum=0.4, forget=0.02, layers=2)
    found = read_text(text, knobs)
    vector = {letter: torch.tensor(surprise._vector(letter)) for letter in text}
    weights = [w[0, 0] for w in surprise.first_weights(2)]
    velocity = [torch.zeros_like(w) for w in weights]

    def mistake(ws: list[torch.Tensor], k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return ((F.silu(k @ ws[0]) @ ws[1] - v) ** 2).sum()

    for t in range(2, len(text)):
        k = F.normalize(vector[text[t - 1]] + vector[text[t - 2]].roll(1), dim=-1)
        v = vector[text[t]]
        error = mistake(weights, k, v)
        gradient = torch.func.grad(mistake)(weights, k, v)
        norm = float(torch.cat([g.flatten() for g in gradient]).norm())
        assert found.surprise[t - 2] == pytest.approx(norm, rel=1e-4)
        assert found.error[t - 2] == pytest.approx(float(error), rel=1e-4)
        given = F.silu(k @ weights[0]) @ weights[1]
        assert found.answers[t - 2] == max(sorted(vector), key=lambda letter: float(given @ vector[letter]))
        velocity = [0.4 * s - 0.3 * g for s, g in zip(velocity, gradient, strict=True)]
        weights = [(1 - 0.02) * w + s for w, s in zip(weights, velocity, strict=True)]


def test_what_repeats_surprises_less_and_nothing_is_learned_without_a_step() -> None:
    found = read_text("over and " * 12, Knobs(step=0.3, momentum=0.0, forget=0.0))
    assert found.surprise[-9:].mean() < 0.5 * found.surprise[:9].mean() and found.right[-20:].mean() > 0.8
    assert set(read_text("over and over", Knobs(step=0.0)).answers) == {"·"}
    assert len(read_text("x" * 500, Knobs()).text) == surprise.MOST
    with pytest.raises(ValueError, match="a text of at least 4 letters, and this has 2"):
        read_text("ab", Knobs())


def test_the_strip_follows_text_and_knobs() -> None:
    panel = surprise.strip()
    figure = panel.figures["surprise"]
    typed = panel.controls["text"]
    typed.value = "one two one two one two"
    reading = read_text(typed.value, Knobs())
    shown = np.asarray(figure.data[0].z)
    assert np.allclose(shown[2:23], reading.surprise, rtol=1e-5)
    assert np.isnan(shown[:2]).all() and np.isnan(shown[23:]).all()
    assert "".join(figure.data[1].text) == typed.value.replace(" ", "␣")
    counts = [int((reading.right == wanted).sum()) for wanted in (True, False)]
    assert [len(figure.data[i].x) for i in (2, 3)] == counts
    typed.value = "ab"
    assert "Four letters at least" in panel.sentence and len(figure.data[1].text) == 23, "the last text stays"
    panel.controls["momentum η"].value, panel.controls["step θ"].value = 0.95, 1.6
    assert "has diverged" in panel.sentence


def test_chunks_of_one_are_the_recurrence_and_larger_ones_are_not() -> None:
    apart, spent = chunks.compare(2, 0.03)
    assert apart[0] == 0 and (np.diff(apart) > 0).all() and (spent > 0).all()
    generator = torch.Generator().manual_seed(0)
    weights = surprise.first_weights(2, 16)
    still = [torch.zeros_like(w) for w in weights]
    q, k, v = (torch.randn(1, 9, 1, 16, generator=generator) / 4 for _ in range(3))
    rates = [torch.full((1, 9, 1), rate) for rate in (0.03, 0.5, 0.001)]
    slow, _ = recurrent_neural_memory(q, k, v, *rates, weights, still)
    fast, _ = chunks.neural_memory(q, k, v, *rates, weights, still, chunk_size=1)
    assert torch.allclose(slow, fast, atol=1e-6)


def test_long_steps_run_away_and_short_ones_are_held() -> None:
    assert not divergence.losses(Knobs(0.4, 0.5, 0.001, 16, 2)).max() < 1e9
    assert divergence.losses(Knobs(0.015, 0.5, 0.001, 16, 2, 2.0))[-256:].mean() < 0.8
    panel = divergence.runaway()
    assert "θ = 0.1" in panel.sentence and "beyond" not in panel.sentence, "at first it is stable, by every rule"
    for control, value in (("how long a step θ", 0.4), ("tokens of a chunk", 32)):
        start, panel.controls[control].value = panel.controls[control].value, value
        assert "beyond all bounds by the paper's rule" in panel.sentence
        panel.controls[control].value = start


def test_the_drawn_flows_are_those_of_the_code() -> None:
    """An arrow for each thing that the architecture reads or writes, and none into attention where there is none."""
    assert {name.lower() for name in dataflow.ARCHITECTURES} == {"lmm", "mac", "mag", "mal"}
    for name, flow in dataflow.ARCHITECTURES.items():
        arrows = {(start, end) for start, end, _, _ in flow.arrows}
        assert {box for arrow in arrows for box in arrow} == set(flow.boxes)
        mixer = Titans(name.lower(), needle_models.config(name.lower()))
        assert ("att" in flow.boxes) == ("p" in flow.boxes) == hasattr(mixer, "attention")
        assert ("gate" in flow.boxes) == hasattr(mixer, "attended_norm")
        writers = {start for start, end in arrows if end == "M"}
        assert writers == ({"att"} if name == "MAC" else {"x"})
    panel = dataflow.dataflow()
    panel.controls["architecture"].value = "MAL"
    assert "MAL" in panel.sentence and panel.figures["dataflow"].layout.title.text.startswith("MAL")


@pytest.mark.parametrize("kind", ["lmm", "mac"])
def test_pushes_are_steps_times_surprise(kind: str, tmp_path: Path) -> None:
    model, _ = load(kind, 0, needle_models.save(tmp_path, kind, (0,)))
    tokens = torch.randint(0, 256, (100,), generator=torch.Generator().manual_seed(0))
    found = needles.pushes(model, tokens)
    memory = model.blocks[0].mixer.memory
    assert found.shape == (1, 100) and (found >= 0).all() and (found > 0).float().mean() > 0.9  # some step may be 0
    if kind == "lmm":  # the whole text at once, in float32
        x = model.blocks[0].norm(model.embed(tokens[None]))
        with torch.no_grad():
            _, _, how_much = memory(x, return_surprise=True)
            wanted = (memory.rates(x)[0] * how_much)[0].sum(-1)
        assert torch.allclose(found[0], wanted, rtol=1e-3, atol=1e-7)
    with pytest.raises(ValueError, match="has no neural memory"):
        needles.pushes(load("window", 0, needle_models.save(tmp_path, "window", (0,)))[0], tokens)


def test_the_needle_panel_asks_every_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needle_models.save(tmp_path / "checkpoints", "lmm", (0,))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    panel = needles.explore("lmm", 0)
    figure = panel.figures["needle"]
    assert len(figure.data[1].x) == 6, "two facts of three tokens"
    assert len(figure.data[2].x) + len(figure.data[3].x) == 2
    assert [text.split("<br>is ")[1] for text in figure.data[4].text] == ["v5", "v61"]
    panel.controls["text with facts"].value = "no fact at all"
    assert "64 of haystack" in panel.sentence and len(figure.data[1].x) == 6
    panel.controls["haystack after it (tokens)"].value = 256
    assert "256 of haystack" in panel.sentence
    assert "Nothing to explore here" in needles.explore("lmm", 7).value


def rows_of(name: str, seeds: tuple[str, ...], value: float) -> pd.DataFrame:
    cells = [(seed, length) for seed in seeds for length in (1024, 2048)]
    return pd.DataFrame(
        {
            "checkpoint": name, "weights": "", "seed": [seed for seed, _ in cells], "exam": 0, "variant": "passkey",
            "length": [length for _, length in cells], "needles": 1, "writes": True, "trained": 512,
            "passes": 1, "n": 10, "correct": 0,
            "accuracy": value, "low": value - 0.1, "high": value + 0.1, "floor": 1 / 64,
        }
    )  # fmt: skip


def test_stored_lengths_are_drawn_over_seeds_where_there_are_several() -> None:
    rows = pd.concat([rows_of("titans-lmm", ("0", "1"), 0.3), rows_of("titans-lmm", ("all",), 0.6)])
    rows = pd.concat([rows, rows_of("needle-cache", ("0",), 0.2)])
    panel = haystacks.by_length(rows)
    lines = {trace.name: trace for trace in panel.figures["needle-by-length"].data if trace.fill != "toself"}
    bands = [trace for trace in panel.figures["needle-by-length"].data if trace.fill == "toself"]
    panel.controls["my guess for the longest haystack (%)"].value = 30
    assert not any(len(trace.y) for trace in (lines["LMM"], lines["full cache"], *bands)), "no line before the guess"
    assert "you say 0.30" in panel.sentence and "LMM" not in panel.sentence and "0.60" not in panel.sentence
    panel.controls["what was measured"].value = True
    assert all(len(band.y) for band in bands)
    assert list(lines["LMM"].y) == pytest.approx([0.6, 0.6]) and list(lines["LMM"].x) == [10, 11]
    assert list(lines["full cache"].y) == pytest.approx([0.2, 0.2])
    panel.controls["my guess for the longest haystack (%)"].value = 85
    assert list(lines["my guess"].y) == pytest.approx([0.85])
    assert list(lines["guessing"].y) == [1 / 64, 1 / 64]
    assert "LMM 0.60, full cache 0.20" in panel.sentence and "titans-lmm-haystack.csv (several seeds)" in panel.source


def test_stored_numbers_of_facts_are_drawn_apart_from_lengths() -> None:
    few, many = (rows_of("titans-mac", ("0",), share).assign(needles=n) for n, share in ((1, 0.9), (16, 0.4)))
    rows = pd.concat([few, many])
    lines = {t.name: t for t in haystacks.by_number(rows).figures["needles-by-number"].data if t.fill != "toself"}
    assert list(lines["MAC"].x) == [0, 4] and list(lines["MAC"].y) == pytest.approx([0.9, 0.4])
    panel = haystacks.by_length(rows)
    panel.controls["what was measured"].value = True
    lines = {t.name: t for t in panel.figures["needle-by-length"].data if t.fill != "toself"}
    assert list(lines["MAC"].y) == pytest.approx([0.9, 0.9])


def test_stored_ages_are_drawn_with_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    (tmp_path / "results").mkdir()
    for stored in (haystacks.stored_streams, haystacks.stored_lengths):
        with pytest.raises(FileNotFoundError, match="makes the first rows"):
            stored()
    for name, kind, value in (("titans-mac", "stream", 0.4), ("needle-sliding", "archive", 1.0)):
        table = pd.DataFrame(
            {"checkpoint": name, "archive": kind == "archive", "seed": "0", "weights": "", "accuracy": value,
             "age": ["1", "2 to 3", "document 5 after 150"], "low": value, "high": value}
        )  # fmt: skip
        table.to_csv(tmp_path / "results" / f"{name}-{kind}.csv", index=False)
    panel = haystacks.by_age()
    lines = {trace.name: list(trace.y) for trace in panel.figures["stream-by-age"].data if trace.fill != "toself"}
    assert lines == {"MAC": pytest.approx([0.4, 0.4]), "BM25 and a reader": pytest.approx([1.0, 1.0])}


def test_ablations_are_drawn_beside_the_paper_s() -> None:
    rows = pd.concat([rows_of("ablation-lmm", ("all",), 0.9), rows_of("ablation-mac-input", ("all",), 0.3)])
    panel = titans_ablations.ablations(rows)
    here, paper = panel.figures["titans-ablations"].data
    assert list(here.x) == pytest.approx([0.9, 0.3]) and list(here.y) == [1, 0]
    assert list(here.error_x.array) == pytest.approx([0.1, 0.1])
    assert list(paper.x) == [27.01] and list(paper.y) == [1]  # the paper has no figure for the order of writing
    assert "LMM, whole 0.90, writes its input 0.30" in panel.sentence
    many = rows_of("ablation-lmm", ("all",), 0.5).assign(needles=64)
    panel = titans_ablations.ablations(pd.concat([rows, many]))
    assert list(panel.controls["facts in tokens"].options) == ["1 in 1,024", "1 in 2,048", "64 in 1,024", "64 in 2,048"]
    panel.controls["facts in tokens"].value = "64 in 1,024"
    assert "64 in 1,024 tokens, taught with up to 512: LMM, whole 0.50." in panel.sentence


def test_orders_are_compared_seed_by_seed() -> None:
    shares = {"ablation-mac": (0.9, 0.7, 0.8), "ablation-mac-input": (0.8, 0.5, 0.5)}
    parts = [rows_of(name, (str(i),), share) for name, told in shares.items() for i, share in enumerate(told)]
    rows = pd.concat([*parts, *(rows_of(name, ("all",), float(np.mean(told))) for name, told in shares.items())])
    more = order.gained(rows, "passkey")
    assert list(more.index) == ["1 in 1,024", "1 in 2,048"] and list(more["value"]) == pytest.approx([0.2, 0.2])
    panel = order.order(rows)
    means = [trace for trace in panel.figures["write-order"].data if not trace.name.endswith("seeds")]
    assert [list(trace.y) for trace in means] == [pytest.approx([0.8, 0.8]), pytest.approx([0.6, 0.6])]
    assert list(means[0].error_y.array) == pytest.approx([0.1, 0.1])
    assert "1 in 1,024 +0.20 [" in panel.sentence


def test_a_long_run_is_drawn_against_its_first_mark() -> None:
    with pytest.raises(FileNotFoundError, match="`labkit long-run` makes them"):
        long_runs.stored_run("untrained")
    ends = {f"{key}_{end}": [0.5, 0.25] for key in ("start", "fresh") for end in ("value", "low", "high")}
    rows = pd.DataFrame(
        {"checkpoint": "titans-lmm", "seed": "0", "tokens": [1024, 4096], "asked": 16, "state_bytes": [2048, 2048],
         "resident_bytes": [2**20, 3 * 2**20], "tokens_per_second": [100.0, 90.0], **ends}
    )  # fmt: skip
    panel = long_runs.long_run(pd.concat([rows, rows.assign(seed="1", start_value=[1.0, 0.75], state_bytes=9)]))
    lines = {trace.name: list(trace.y) for trace in panel.figures["long-run"].data}
    assert lines["state"] == [1, 1] and lines["resident memory"] == [1, 3]
    assert lines["tokens per second"] == pytest.approx([1, 0.9])
    assert lines["from the start, seed 0"] == [0.5, 0.25] and lines["from the start, seed 1"] == [1, 0.75]
    assert "0.25, 0.75 of the 16 facts of the start" in panel.sentence and "a state of 2 KiB, 3 MiB" in panel.sentence
