"""Notebook 03 in a real browser: text is typed, sliders are pressed, and the figures show what the memory computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.checkpoints import load
from labkit.explore import divergence
from labkit.explore.surprise import CHUNKS, FORGETS, MOMENTA, STEPS, Knobs, read_text
from labkit.haystack import needle_task
from labkit.session import Session

from lab_browser import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOK = "03_titans.ipynb"


@pytest.fixture(scope="module")
def lab(repo: Path) -> Iterator[Lab]:
    with Lab(repo / "notebooks", data=repo / "data") as lab:
        yield lab


def test_every_knob_reaches_the_real_memory(lab: Lab) -> None:
    with lab.open(NOTEBOOK) as page:
        page.run_all()
        text = "the tide is in. the tide is out. the tide is in."
        page.type_text("text", text)
        knobs = {"step": 0.2, "momentum": 0.3, "forget": 0.001, "chunk_size": 1, "layers": 1}
        moves = {
            "step θ": ("step", STEPS[STEPS.index(0.2) - 1]),
            "momentum η": ("momentum", MOMENTA[MOMENTA.index(0.3) + 1]),
            "forgetting α": ("forget", FORGETS[FORGETS.index(0.001) + 1]),
            "chunk size": ("chunk_size", CHUNKS[1]),
            "layers": ("layers", 2),
        }
        for slider, (knob, value) in moves.items():
            page.press(slider, "ArrowLeft" if knob == "step" else "ArrowRight", figures=["surprise"])
            knobs[knob] = value
            reading = read_text(text, Knobs(**knobs))  # type: ignore[arg-type]
            shown = page.figure("surprise")["traces"]
            drawn = np.array(shown[0]["z"][2 : len(text)], dtype=float)
            assert np.allclose(drawn, reading.surprise, rtol=1e-3), slider
            assert len(shown[2]["x"]) == int(reading.right.sum())
        page.press("layers of this memory", "ArrowRight", figures=["chunk-size"])
        page.press("how long a step θ", "ArrowLeft", moves=2, figures=["runaway"])
        loss = divergence.losses(Knobs(0.01, 0.5, 0.001, 16, 2))
        ends = np.clip(loss, divergence.FLOOR, divergence.CEILING)
        assert np.allclose(page.figure("runaway")["traces"][0]["y"], ends, rtol=1e-3)
        page.press("architecture", "ArrowRight", figures=["dataflow"])
        assert "MAG, memory as gate" in page.outputs()
        page.type_text("text with facts", "Rain is near. k1=v2 The hill is steep. k7=v9 We wait.")
        page.press("haystack after it (tokens)", "ArrowRight", figures=["needle"])
        before = page.marks("needle-by-length")
        page.press("my guess for the longest haystack (%)", "ArrowRight", figures=["needle-by-length"])
        assert page.marks("needle-by-length") == before and "you say 0.55 for the best of them" in page.outputs()
        page.press("what was measured", "ArrowRight", figures=["needle-by-length"])
        after = page.marks("needle-by-length")
        assert len(after["lines"]) >= len(before["lines"]) + 8 and len(after["dots"]) > len(before["dots"]) + 16
        words = next(trace["text"] for trace in page.figure("needle")["traces"] if trace.get("mode") == "text")
        assert words == [f"k{key}: {answered(key)}<br>is v{value}" for key, value in ((1, 2), (7, 9))]
        assert page.problems() == []


def answered(key: int) -> str:
    """What the trained model answers in this process, after the typed text and 128 tokens of haystack."""
    model, card = load("titans-mac")
    task = needle_task(card)
    hay = task.at_length(64, 1, "passkey").haystack(held_out=True)
    session = Session(model, passes=1)
    session.observe(task.encode("Rain is near. k1=v2 The hill is steep. k7=v9 We wait."))
    session.observe(hay[torch.arange(128) % len(hay)])
    session.sleep()
    return task.token_name(int(session.ask(task.encode_question(key))[-1].argmax()))
