"""Costs worked out from settings equal those that PyTorch's counter finds in the real calls."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from labkit.budget import question_flops, sleep_flops
from labkit.costs import answer_cost, position_after, read_cost, sleep_cost, thought_cost
from labkit.evaluate import fall_asleep
from labkit.models import SleepConfig, SleepLM
from labkit.reasoning import reason
from labkit.tasks import DepoThinking, Rule110Thinking, Thinking

MODELS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "narrow values": {"dim": 32, "key_dim": 32, "value_dim": 16, "conv": 4, "attention_conv": 3},
    "gates that see": {"conv_gates": True, "repeat": 1, "heads": 4},
    "transformer": {"eviction": "keep", "pattern": ("attention",)},
    "sliding": {"eviction": "sliding"},
    "keeps its cache": {"eviction": "keep"},
}
TITANS: dict[str, dict[str, Any]] = {
    f"{kind}, {name}": {"pattern": (kind,), "segment": 8, "chunk_size": 4, **settings}
    for kind in ("lmm", "mac", "mag", "mal")
    for name, settings in {
        "hard": {},
        "keep": {"eviction": "keep", "memory_layers": 3, "persistent": 0},
        "sliding": {"eviction": "sliding", "memory_layers": 1, "expansion": 3},
        "token by token": {"eviction": "keep", "chunk_size": 1, "heads": 4},
    }.items()
}


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("window", "context"), [(32, 32), (40, 40), (8, 32), (20, 50), (1, 3)])
def test_sleep_costs_what_is_counted(settings: dict[str, Any], window: int, context: int) -> None:
    config = SleepConfig(vocab=30, window=window, **settings)
    model = SleepLM(config)
    tokens = torch.randint(0, 30, (context,), generator=torch.Generator().manual_seed(0))
    for passes in (0, 1, 3):
        assert sleep_flops(model, tokens, passes) == sleep_cost(config, context, passes).flops


@pytest.mark.parametrize("settings", TITANS.values(), ids=TITANS)
@pytest.mark.parametrize(("window", "context"), [(32, 32), (8, 32), (9, 30), (20, 50)])
def test_sleep_with_neural_memories_costs_what_is_counted(settings: dict[str, Any], window: int, context: int) -> None:
    config = SleepConfig(vocab=30, window=window, dim=16, repeat=1, **settings)
    tokens = torch.zeros(context, dtype=torch.int64)
    for passes in (0, 1, 2):
        assert sleep_flops(SleepLM(config), tokens, passes) == sleep_cost(config, context, passes).flops


@pytest.mark.parametrize("settings", [*MODELS.values(), *TITANS.values()], ids=[*MODELS, *TITANS])
def test_waking_costs_what_is_counted(settings: dict[str, Any]) -> None:
    config = SleepConfig(vocab=30, window=32, **settings)
    model, question = SleepLM(config), torch.zeros(1, 5, dtype=torch.int64)
    state = model.init_state(1)
    assert question_flops(model, question, state) == read_cost(config, 5, answered=True).flops
    with torch.inference_mode():
        _, later = model.wake(question, state)
    assert question_flops(model, question[:, :1], later) == read_cost(config, 1, 5, answered=True).flops
    assert question_flops(model, question, later) == read_cost(config, 5, 5, answered=True).flops


@pytest.mark.parametrize(
    "task",
    [
        *[DepoThinking(nodes=8, hops=4, queries=4, trace=trace) for trace in ("even", "single", "filler", "loops")],
        Rule110Thinking(width=6, steps=4, queries=8),
    ],
    ids=repr,
)
@pytest.mark.parametrize("thought", [0, 2])
def test_thinking_costs_what_is_counted(task: Thinking, thought: int) -> None:
    config = SleepConfig(vocab=task.vocab, window=task.window, dim=32)
    found = reason(SleepLM(config), task, 2, thought, n=3)
    asks = task.exam(1, torch.Generator().manual_seed(0)).questions.shape[-1]
    assert found.flops_sleep == sleep_cost(config, task.context, 2).flops
    assert found.flops_wake == thought_cost(config, task.trace, asks, thought, task.piece).flops


def test_every_weight_of_a_reading_is_moved_once() -> None:
    config = SleepConfig(vocab=30, window=32, attention_conv=3, conv_gates=True)
    model = SleepLM(config)
    weights = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(("embed", "between")))
    rows, state = 7 * config.dim, 2 * config.state_size
    cache = 2 * (2 * 7 * config.dim + 2 * 7 * config.dim)  # two layers: keys and values read, and written
    assert read_cost(config, 7, answered=True).bytes == 4 * (weights + rows + state + cache)


@pytest.mark.parametrize("kind", ["lmm", "mac", "mag", "mal"])
def test_every_weight_of_a_neural_memory_is_moved_once(kind: str) -> None:
    config = SleepConfig(vocab=30, window=32, pattern=(kind,), segment=8, chunk_size=4)
    left_out = ("embed", "between", "initial")  # looked up; between passes; what a memory begins with
    weights = sum(p.numel() for n, p in SleepLM(config).named_parameters() if not any(part in n for part in left_out))
    memory = config.heads * 2 * (config.dim // config.heads) ** 2 * config.expansion
    state = 2 * 2 * memory * config.repeat  # weights and velocity, read and written
    streams = {"lmm": 0, "mac": 2, "mag": 1, "mal": 1}[kind]
    cache = streams * (2 * 7 + 2 * 7) * config.dim * config.repeat
    assert read_cost(config, 7, answered=True).bytes == 4 * (weights + 7 * config.dim + state + cache)


@pytest.mark.parametrize(("kind", "read"), [("mac", (8, 8, 4)), ("mag", (8, 15, 11)), ("mal", (8, 15, 11))])
def test_a_cache_is_read_segment_by_segment_and_all_else_once(kind: str, read: tuple[int, ...]) -> None:
    """20 tokens in segments of 8: "mac" begins anew in each, a sliding window has the 7 positions before it as well."""
    config = SleepConfig(vocab=30, window=32, pattern=(kind,), segment=8, chunk_size=4, repeat=1)
    streams = 2 if kind == "mac" else 1
    one, three = (read_cost(config, length).bytes / 4 for length in (8, 20))
    cache = 2 * streams * config.dim * (sum(read) + 20 - 8 - 8)  # keys and values that are read, and those written
    assert three - one == cache + (20 - 8) * config.dim  # and the embeddings of 12 more tokens


def test_a_sleep_is_shared_by_its_questions_and_waking_has_its_price() -> None:
    rows = pd.DataFrame({"flops_sleep": [100, 0], "flops_wake": [7, 7]})
    assert answer_cost(rows, questions=4, price=10).tolist() == [95, 70]


def test_a_question_known_before_has_a_sleep_of_its_own() -> None:
    rows = pd.DataFrame({"flops_sleep": [80, 80], "flops_wake": [5, 5], "asked": ["after", "before"]})
    assert answer_cost(rows, 8).tolist() == [15, 85]


@pytest.mark.parametrize("settings", [*MODELS.values(), *TITANS.values()], ids=[*MODELS, *TITANS])
def test_what_counts_as_read_after_sleep(settings: dict[str, Any]) -> None:
    config = SleepConfig(vocab=30, window=8, **settings)
    model = SleepLM(config)
    for context in (5, 8, 20):
        for passes in (0, 1, 2):
            state = fall_asleep(model, torch.zeros(context, dtype=torch.int64), passes)
            assert position_after(config, context, passes) == state.position
