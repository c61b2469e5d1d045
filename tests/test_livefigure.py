"""LiveFigure: announced late, complete when it is, and repeated if the browser drew something older."""

from __future__ import annotations

from typing import Any

import ipywidgets as W
import numpy as np
import plotly.graph_objects as go
import pytest

from labkit.explore import livefigure
from labkit.explore.livefigure import LiveFigure


@pytest.fixture
def figure() -> LiveFigure:
    figure = LiveFigure()
    figure.add_trace(go.Scatter(y=[1, 2, 3]))
    figure.update_layout(meta="early")
    return figure


def told(figure: LiveFigure) -> tuple[list[Any], Any]:
    """The data and the meta of the layout, as the browser would get them now."""
    state = figure.get_state()
    return [list(trace["y"]) for trace in state["_widget_data"]], state["_widget_layout"]["meta"]


def test_nothing_is_announced_before_somebody_refers_to_it(figure: LiveFigure) -> None:
    assert figure.comm is None
    box = W.VBox([figure])
    assert figure.comm is not None and box.get_state("children")["children"] == [f"IPY_MODEL_{figure.model_id}"]


def test_showing_it_announces_it(figure: LiveFigure) -> None:
    shown = figure._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
    assert figure.comm is not None and shown["model_id"] == figure.model_id


def test_the_state_is_that_of_now(figure: LiveFigure) -> None:
    assert told(figure) == ([[1, 2, 3]], "early")
    assert figure.model_id
    with figure.batch_update():
        figure.data[0].y = np.array([4, 5], dtype=np.float32)
        figure.layout.meta = "late"
    state = figure.get_state()
    (trace,) = state["_widget_data"]
    assert trace["y"]["dtype"] == "float32" and np.frombuffer(trace["y"]["buffer"], np.float32).tolist() == [4, 5]
    assert state["_widget_layout"]["meta"] == "late"


def test_what_changed_before_the_first_drawing_is_sent_again(
    figure: LiveFigure, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []
    monkeypatch.setattr(figure, "send_state", lambda key=None: sent.append(key))
    assert figure.model_id
    figure._hear(figure, "drawn", [])
    assert sent == []  # the browser has drawn what there is
    figure.data[0].y = [9]
    sent.clear()
    figure._hear(figure, "something else", [])
    assert sent == []
    figure._hear(figure, "drawn", [])
    assert sent == [["_widget_data", "_widget_layout"]]


def test_the_code_travels_once(figure: LiveFigure) -> None:
    other = LiveFigure()
    assert figure.model_id != other.model_id
    assert livefigure._library() is livefigure._library()
    assert len(livefigure._library().code) > 1_000_000
    assert max(len(str(figure.get_state("_esm"))), len(str(other.get_state("_esm")))) < 7_000
