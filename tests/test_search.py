"""Search: equal budgets, judges that err as often as they shall, and choices that are what they are called."""

from __future__ import annotations

import pytest
import torch

from labkit.budget import flops_of
from labkit.costs import position_after
from labkit.evaluate import fall_asleep
from labkit.models import SleepConfig, SleepLM
from labkit.reasoning import write_chains
from labkit.search import Chains, _grown, chosen, search, search_cost
from labkit.tasks import DepoThinking, Rule110Thinking

TASK = DepoThinking(nodes=6, hops=3, queries=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> SleepLM:
    torch.manual_seed(0)
    return SleepLM(SleepConfig(vocab=TASK.vocab, window=TASK.window, dim=16, repeat=1)).eval()


def posed(n: int, thought: int, model: SleepLM):  # type: ignore[no-untyped-def]
    exam = TASK.announced(TASK.exam(n, seeded(1)), thought)
    return exam, fall_asleep(model, exam.context, 1)


@pytest.mark.parametrize("kept", [None, 2])
def test_draws_without_warmth_are_the_likeliest_chain(model: SleepLM, kept: int | None) -> None:
    exam, state = posed(5, 2, model)
    found = search(model, TASK, exam, state, 2, 4, kept=kept, temperature=1e-6, generator=seeded())
    likeliest = write_chains(model, TASK, exam, state, 2)[..., -1]
    assert (found.answers == likeliest[..., None]).all()


@pytest.mark.parametrize("eviction", ["hard", "keep", "sliding"])
@pytest.mark.parametrize("kept", [None, 1, 2, 8])
def test_samples_and_trees_cost_what_is_worked_out(kept: int | None, eviction: str) -> None:
    """All draw B tokens at every step; a tree reads only those of its kept chains again."""
    config = SleepConfig(vocab=TASK.vocab, window=TASK.window, dim=16, repeat=1, eviction=eviction)
    model, exam = SleepLM(config), TASK.announced(TASK.exam(1, seeded(1)).at([1]), 2)
    state = fall_asleep(model, exam.context, 1)
    run = lambda: search(model, TASK, exam, state, 2, 8, kept=kept, generator=seeded())  # noqa: E731
    assert flops_of(run) == search_cost(config, 3, 2, kept or 8, position_after(config, TASK.context, 1))


def test_an_oracle_takes_a_right_chain_wherever_there_is_one() -> None:
    answers = torch.tensor([[[1, 2, 3, 3], [1, 1, 1, 2], [2, 2, 2, 2]]])
    chains = Chains(answers == 3, answers)
    assert chosen(chains, "samples", 0.0, seeded()).tolist() == [[1, 0, 0]]
    assert chosen(chains, "samples", 1.0, seeded()).tolist() == [[0, 0, 0]]  # one that is always mistaken
    assert chosen(chains, "majority", 0.0, seeded()).tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match="no way to choose called 'best'"):
        chosen(chains, "best", 0.0, seeded())


def test_a_judge_errs_as_often_as_it_shall() -> None:
    """One right chain among two: taken if it is called right and the other is not, or half the time on a draw."""
    right = torch.tensor([True, False]).expand(20_000, 1, 2)
    chains = Chains(right, right.long())
    for error in (0.0, 0.1, 0.3, 0.5):
        share = chosen(chains, "samples", error, seeded()).mean()
        assert share == pytest.approx((1 - error) ** 2 + error * (1 - error), abs=0.01)


def test_a_tree_with_an_oracle_finds_more_than_samples_do(model: SleepLM) -> None:
    """With blind draws a chain of three steps out of 6 nodes is right in 1 of 216; a tree need only find each step."""
    exam, state = posed(40, 2, model)
    wanted = torch.cat([TASK.written(exam, 2).flatten(2), exam.answers[..., None]], dim=-1).flatten(0, 1)
    logits = torch.full((len(wanted), TASK.vocab), -1e9)
    logits[:, : TASK.nodes] = 0.0

    class Blind:
        """A reader whose next step is any node."""

        def wake(self, tokens: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            return logits[:1].expand(len(tokens), -1)[:, None], state

    shares = {}
    for kept in (None, 4):
        begun = state.select(torch.zeros(len(wanted), dtype=torch.int64))
        grown = _grown(Blind(), logits, begun, wanted, 16, kept, 0.0, 1.0, seeded())  # type: ignore[arg-type]
        shares[kept] = (grown == wanted[:, None]).all(-1).any(-1).float().mean()
    assert shares[None] < 0.15 and shares[4] > 0.45


def test_what_cannot_be_searched_is_refused(model: SleepLM) -> None:
    exam, state = posed(2, 1, model)
    with pytest.raises(ValueError, match="6 branches cannot be shared evenly by 4 kept chains"):
        search(model, TASK, exam, state, 1, 6, kept=4, generator=seeded())
    with pytest.raises(ValueError, match="error must be from 0 to 1"):
        search(model, TASK, exam, state, 1, 4, error=2.0, generator=seeded())
    other = Rule110Thinking(width=5, steps=2)
    with pytest.raises(ValueError, match="written steps of one token"):
        search(model, other, exam, state, 1, 4, generator=seeded())
