"""Which optimiser moves which weight, and how fast at which step."""

from __future__ import annotations

import copy

import pytest
import torch

from labkit.models import SleepConfig, SleepLM
from labkit.recipes import Training
from labkit.step import learning_rate, make_optimisers


def test_learning_rates_rise_stay_and_fall() -> None:
    settings = Training(steps=100, warmup=10, cooldown=0.4)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[10:60] == [1.0] * 50
    assert rates[60:] == pytest.approx([(100 - step) / 40 for step in range(60, 100)])
    steady = Training(steps=5, warmup=0, cooldown=0.0)
    assert [learning_rate(step, steady) for step in range(5)] == [1.0] * 5


def test_muon_takes_the_matrices_inside_the_blocks_and_adamw_the_rest() -> None:
    model = SleepLM(SleepConfig(vocab=5, window=4, dim=16, repeat=1))
    muon, adamw = make_optimisers(model, Training(steps=9, muon_lr=0.03, adamw_lr=0.004))
    assert type(muon) is torch.optim.Muon and type(adamw) is torch.optim.AdamW
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon, by_adamw = (
        {names[id(p)] for group in optimiser.param_groups for p in group["params"]} for optimiser in (muon, adamw)
    )
    assert not by_muon & by_adamw and by_muon | by_adamw == set(names.values())
    assert by_muon == {
        *(f"blocks.{i}.mixer.{part}.weight" for i in (0, 1) for part in ("query", "key", "value", "out")),
        *(f"blocks.{i}.mlp.{part}.weight" for i in (0, 1) for part in ("gate", "up", "down")),
        "blocks.1.mixer.gate.weight",
    }
    titans = SleepLM(SleepConfig(vocab=5, window=16, dim=16, pattern=("mac",), repeat=1))
    muon_of_titans, _ = make_optimisers(titans, Training(steps=9))
    small = ("taps", "gates", "persistent", "initial", "norm")
    moved = {id(p) for group in muon_of_titans.param_groups for p in group["params"]}
    of_muon = [name for name, p in titans.named_parameters() if id(p) in moved]
    assert of_muon and not [name for name in of_muon if any(part in name for part in small)]
    assert muon.defaults["lr"] == 0.03 and muon.defaults["momentum"] == 0.95
    assert adamw.defaults["lr"] == 0.004 and adamw.defaults["betas"] == (0.9, 0.98)
    before = copy.deepcopy(model.state_dict())
    model(torch.zeros(1, 4, dtype=torch.int64), labels=torch.ones(1, 4, dtype=torch.int64)).loss.backward()
    for optimiser in (muon, adamw):
        optimiser.step()
    still = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert still == {"between.weight"}  # without a second pass nothing re-enters
