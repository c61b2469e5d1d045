"""What each part of Titans is worth: trained without it, on needles, beside the ranking of the paper's table 5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.haystacks import pooled, settings, stored_lengths
from labkit.explore.panel import Panel, choice
from labkit.explore.panes import axes, panes, stack
from labkit.tasks.needle import HAYS

__all__ = ["PARTS", "PERPLEXITY", "ablations"]

#: recipes, from the whole memory down, and what they are called
PARTS = {
    "ablation-lmm": "LMM, whole",
    "ablation-no-forgetting": "... no forgetting",
    "ablation-no-momentum": "... no momentum",
    "ablation-no-conv": "... no convolution",
    "ablation-linear": "... linear memory",
    "ablation-deep": "... four layers, not two",
    "ablation-mac": "MAC, whole",
    "ablation-mac-no-persistent": "... no persistent tokens",
    "ablation-mac-input": "... writes its input",
}

#: perplexity of language models (arXiv 2501.00663, table 5; of 400 million weights, it seems). There persistent tokens
#: are taken from LMM (27.63) and not from MAC; four layers and the order of writing are not in that table.
PERPLEXITY = {
    "ablation-lmm": 27.01,
    "ablation-no-forgetting": 29.04,
    "ablation-no-momentum": 28.98,
    "ablation-no-conv": 28.73,
    "ablation-linear": 28.49,
    "ablation-mac": 26.67,
}


def ablations(rows: pd.DataFrame | None = None) -> Panel:
    """Recall of the whole and of what lacks a part, for as many facts and tokens as chosen, beside the paper's."""
    rows = stored_lengths(PARTS) if rows is None else rows
    trained = int(rows["trained"].max())
    shown, kinds_of_hay = settings(pooled(rows))
    names = [name for name in PARTS if name in set(shown["checkpoint"])]
    kinds = [variant for variant in HAYS if variant in set(shown["variant"])]
    variant, setting = choice("needle", kinds, kinds[0]), choice("facts in tokens", kinds_of_hay, kinds_of_hay[-1])
    titles = ["Recall, here", "Perplexity in the paper (lower is better)"]
    fig = panes("titans-ablations", titles, height=420, gap=0.04, margin_l=250)
    place = np.arange(len(names))[::-1]
    alone = {name: "" if "all" in set(own["seed"]) else " (one seed)" for name, own in shown.groupby("checkpoint")}
    titled = [PARTS[name] + alone[name] for name in names]
    dots = {"mode": "markers", "marker_size": 10, "showlegend": False}
    bars = {"type": "data", "symmetric": False, "thickness": 2}
    here = stack(fig, (1, 1), go.Scatter(x=[0], y=[0], marker_color=style.ROLES["model"], **dots))
    told = [(at, PERPLEXITY[name]) for at, name in zip(place, names, strict=True) if name in PERPLEXITY]
    paper = {"x": [ppl for _, ppl in told], "y": [at for at, _ in told], "marker_symbol": "diamond"}
    stack(fig, (1, 2), go.Scatter(**paper, marker_color=style.ROLES["rival"], **dots))
    span = (-0.6, len(names) - 0.4)
    named: dict[str, Any] = {"tickvals": place, "ticktext": titled}
    axes(fig, (1, 1), x="right answers (share), 95% interval", y="", x_range=(-0.03, 1.05), y_range=span, **named)
    axes(fig, (1, 2), x="perplexity", y="", x_range=(26, 29.5), y_range=span, tickvals=place, showticklabels=False)

    def show() -> str:
        part = shown[(shown["variant"] == variant.value) & (shown["setting"] == setting.value)].set_index("checkpoint")
        own = part.reindex(names)
        with fig.batch_update():
            here.x, here.y = style.column(own["accuracy"]), style.column(place)
            here.error_x = {
                **bars, "array": own["high"] - own["accuracy"], "arrayminus": own["accuracy"] - own["low"]
            }  # fmt: skip
        ranked = own["accuracy"].dropna().sort_values(ascending=False)
        order = ", ".join(f"{PARTS[name].removeprefix('... ')} {value:.2f}" for name, value in ranked.items())
        return (
            f"{variant.value}, {setting.value} tokens, taught with up to {trained}: {order}. The paper measures "
            "another thing, language models; what can be compared is the order of the parts."
        )

    files = ", ".join(f"{name}-haystack.csv" for name in names)
    return Panel(
        "titans-ablations", show, controls=[variant, setting], figures=[fig],
        source=f"Stored in data/results: {files}; made by `labkit haystack <name>` over all seeds, on held-out "
        "haystacks. Right: arXiv 2501.00663, table 5.",
    )  # fmt: skip
