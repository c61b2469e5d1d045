"""Panels, style and still pictures: what a reader sees is what was computed."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from labkit import explore
from labkit.cli import app
from labkit.explore import filling, kaczmarz, pictures, selfcheck, style
from labkit.explore.gallery import PICTURES, draw
from labkit.explore.panel import Panel, choice, slider


def dummy(**more: object) -> tuple[Panel, list[int]]:
    """A panel that notes the values its slider has had."""
    seen: list[int] = []
    control = slider("n", 2, 0, 9)
    fig = style.figure("dummy", "Dummy", x="n", y="n (count)")
    trace = style.line(fig, "n", colour=style.GREY)

    def show() -> str:
        seen.append(control.value)
        trace.x, trace.y = style.column([0, 1]), style.column([control.value, 6 / (control.value - 7)])
        return f"n is {control.value} & well"

    return Panel("dummy", show, controls=[control], figures=[fig], source="Computed <now>.", **more), seen


# ------------------------------------------------------------------------------------- style


def test_the_palette_is_that_of_okabe_and_ito() -> None:
    red, green, blue = 0xD5, 0x5E, 0x00
    assert style.PALETTE["vermillion"] == f"#{red:02X}{green:02X}{blue:02X}"
    assert len(set(style.PALETTE.values())) == 8 and len(set(style.CYCLE)) == 7
    assert set(style.CYCLE) | {style.GREY} >= set(style.ROLES.values())
    assert style.tint("#D55E00", 0.5) == "rgba(213,94,0,0.5)"


def test_a_figure_needs_its_words() -> None:
    fig = style.figure("f", "Title", x="sleep (ms)", y="share", x_range=(0, 2), width=300, height=200)
    assert fig.layout.meta == "f" and fig.layout.xaxis.title.text == "sleep (ms)"
    assert tuple(fig.layout.xaxis.range) == (0, 2) and (fig.layout.width, fig.layout.height) == (300, 200)
    for words in ({"title": " "}, {"x": ""}, {"y": ""}, {"name": ""}):
        with pytest.raises(ValueError, match="A figure needs a"):
            style.figure(**({"name": "f", "title": "t", "x": "x", "y": "y"} | words))
    with pytest.raises(ValueError, match="LaTeX"):
        style.figure("f", "t", x=r"$\alpha$", y="y")


def test_columns_are_flat_float32() -> None:
    for given in ([1, 2.5], (1, 2.5), np.array([[1.0, 2.5]]), torch.tensor([1.0, 2.5], requires_grad=True)):
        assert style.column(given).dtype == np.float32 and style.column(given).tolist() == [1, 2.5]
    assert style.column(torch.tensor([1.0], dtype=torch.bfloat16)).tolist() == [1]
    assert style.column(range(3)).tolist() == [0, 1, 2]


def test_a_band_goes_there_above_and_back_below() -> None:
    outline = style.band_outline([1, 2], [0, 1], [5, 6])
    assert outline["x"].tolist() == [1, 2, 2, 1] and outline["y"].tolist() == [5, 6, 1, 0]


def test_a_heat_puts_every_number_where_it_belongs() -> None:
    z = torch.arange(6.0).view(2, 3)
    fig = style.figure("f", "t", x="x", y="y")
    trace = style.heat(fig, z, low=0, high=5)
    drawn = {(y, x): value for x, y, value in zip(trace.x, trace.y, trace.z, strict=True)}
    assert drawn == {(i, j): float(z[i, j]) for i in range(2) for j in range(3)}
    trace.z = style.column(z + 1)
    assert trace.z.tolist() == [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------------------------- panels


def test_a_panel_computes_at_every_move() -> None:
    panel, seen = dummy()
    panel.controls["n"].value = 5
    assert seen == [2, 5] and panel.sentence == "n is 5 & well"
    assert panel.figures["dummy"].data[0].y.tolist() == [5, -3]
    shown = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown and "n is 5" in shown["text/plain"]
    texts = [w.value for w in panel.box.children if hasattr(w, "placeholder")]
    assert "n is 5 &amp; well" in texts and any("Computed &lt;now&gt;." in text for text in texts)


def test_an_exception_in_a_panel_is_shown_and_raised() -> None:
    panel, _ = dummy()
    with pytest.raises(ZeroDivisionError):
        panel.controls["n"].value = 7
    shown = [w.value for w in panel.box.children if hasattr(w, "placeholder")]
    assert any("went wrong" in text and "ZeroDivisionError" in text for text in shown)
    panel.controls["n"].value = 1
    assert panel.sentence == "n is 1 & well"


def test_a_panel_names_its_source() -> None:
    with pytest.raises(ValueError, match="where its numbers come from"):
        Panel("p", lambda: "", controls=[], figures=[], source=" ")


def test_setup_prints_and_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    draws = []
    for _ in range(2):
        explore.setup(seed=5)
        draws.append((torch.rand(2).tolist(), np.random.rand(), random.random()))
    assert draws[0] == draws[1]
    told = capsys.readouterr().out
    for word in ("device  cpu", "dtype   float32", "seed    5", "torch ", "plotly ", "ipywidgets "):
        assert word in told
    for wrong in (True, 1.0, "0"):
        with pytest.raises(TypeError, match="whole number"):
            explore.setup(seed=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 0"):
        explore.setup(seed=-1)


def test_the_self_check_waits_for_a_move() -> None:
    panel = selfcheck.check()
    assert panel.sentence == selfcheck.WAITING
    panel.controls["move me"].value = 7
    assert "7 squared is 49" in panel.sentence and panel.figures["selfcheck"].data[0].y.tolist() == [49]


def test_the_installation_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    selfcheck.installation()
    assert "labkit doctor" in capsys.readouterr().out
    monkeypatch.setattr("labkit.explore.selfcheck.examine", lambda: [_Bad()])
    selfcheck.installation()
    assert capsys.readouterr().out == "Not well: planted\n"


class _Bad:
    well, sentence = False, "planted"


# ------------------------------------------------------------------------------------- memories


def project(keys: torch.Tensor, values: torch.Tensor, sweeps: int) -> np.ndarray:
    """Kaczmarz's projections, one after another, in numpy and float64."""
    k, v = keys.double().numpy(), values.double().numpy()
    state = np.zeros((k.shape[1], v.shape[1]))
    for _ in range(sweeps):
        for key, value in zip(k, v, strict=True):
            state += np.outer(key, value - state.T @ key) / (key @ key)
    return state


@pytest.mark.parametrize("pairs", [1, 7, 16, 40])
def test_the_delta_memory_is_a_sweep_of_projections(pairs: int) -> None:
    keys, values = filling.random_pairs(pairs, 16, seed=3)
    state = filling.delta_memory(keys, values)
    assert np.allclose(state, project(keys, values, 1), atol=1e-5)
    assert np.allclose(filling.delta_memory(keys, values, state), project(keys, values, 2), atol=1e-5)


def test_recall_is_the_nearest_value() -> None:
    keys, values = torch.eye(3), torch.eye(3)
    assert filling.recalled(torch.eye(3), keys, values).all()
    swapped = torch.eye(3)[[1, 0, 2]]
    assert filling.recalled(swapped, keys, values).tolist() == [False, False, True]
    keys, values = filling.random_pairs(30, 16)
    counts = filling.recalled_so_far(keys, values)
    for n in (1, 9, 30):
        state = filling.delta_memory(keys[:n], values[:n])
        assert counts[n - 1] == int(filling.recalled(state, keys[:n], values[:n]).sum())
    assert counts[-1] < 30, "a 16 by 16 memory cannot hold 30 random pairs"


def test_the_filling_panel_shows_the_memory_of_this_moment() -> None:
    panel = filling.fills_up(size=8, most=12, start=3, seed=4)
    panel.controls["pairs written"].value = 9
    keys, values = (x[:9] for x in filling.random_pairs(12, 8, seed=4))
    state = filling.delta_memory(keys, values)
    assert np.allclose(panel.figures["memory"].data[0].z, state.flatten())
    delta, plain = panel.figures["read-back"].data
    assert np.allclose(delta.y, (keys @ state - values).norm(dim=1)) and delta.y[-1] < 1e-5
    assert np.allclose(plain.y, (keys @ (keys.T @ values) - values).norm(dim=1), atol=1e-5)
    panel.controls["my guess: pairs it keeps without a mistake"].value = 5
    assert panel.figures["given-back"].data[2].x.tolist() == [5, 5] and "you guessed 5" in panel.sentence


def test_the_first_mistake_is_told_when_it_is_there_and_not_before() -> None:
    panel = filling.fills_up()
    counts = filling.recalled_so_far(*filling.random_pairs(48, 16))
    kept = next(i for i, count in enumerate(counts) if count <= i)
    for written in range(panel.controls["pairs written"].value, kept + 1):
        panel.controls["pairs written"].value = written
        assert "It made no mistake so far; you guessed 16." in panel.sentence and "then not" not in panel.sentence
    assert len(panel.figures["given-back"].data[1].y) == kept, "nothing is drawn beyond what was written"
    panel.controls["pairs written"].value = kept + 1
    assert f"It kept {kept} pairs without a mistake, then not; you guessed 16." in panel.sentence


@pytest.mark.parametrize("pairs", [6, 12, 16, 24])
def test_sweeps_near_least_squares_and_never_below(pairs: int) -> None:
    keys, values = filling.random_pairs(pairs, 16, seed=2)
    errors, best = kaczmarz.sweep_errors(keys, values, 60), kaczmarz.best_error(keys, values)
    k, v = keys.double().numpy(), values.double().numpy()
    direct = np.square(k @ np.linalg.pinv(k) @ v - v).sum() / np.square(v).sum()
    assert np.isclose(best, direct, atol=1e-8)
    assert np.isclose(errors[2], np.square(k @ project(keys, values, 3) - v).sum() / np.square(v).sum(), atol=1e-4)
    assert min(errors) >= best - 1e-6 and errors[-1] < errors[0]
    if pairs < 16:
        assert best < 1e-10 and errors[-1] < 0.05


def test_the_sweep_panel_follows_both_sliders() -> None:
    panel = kaczmarz.sweeps(size=8, most=10, seed=1)
    panel.controls["pairs"].value, panel.controls["sweeps"].value = 5, 4
    keys, values = (x[:5] for x in filling.random_pairs(16, 8, seed=1))
    path, here, floor = panel.figures["sweeps"].data
    assert np.allclose(path.y, kaczmarz.sweep_errors(keys, values, 4)) and here.x.tolist() == [4]
    assert np.allclose(floor.y, kaczmarz.best_error(keys, values), atol=1e-7)


# ------------------------------------------------------------------------------------- still pictures


def test_every_picture_has_words_and_its_own_name() -> None:
    for name, picture in PICTURES.items():
        assert len(picture.alt) > 30 and not re.search(r"[\[\]$]", picture.alt)
        try:
            panel = picture.make()
        except FileNotFoundError as missing:
            assert "labkit" in str(missing), f"{name}: no command is named that makes what is missing"
            continue
        assert panel.name == name


def test_a_picture_is_composed_of_figures_and_words() -> None:
    panel = Panel(
        "two",
        lambda: "A sentence & <more>.",
        controls=[slider("n", 2, 0, 9), choice("K", [("four", 4)], 4)],
        figures=[[style.figure(n, "t", x="x", y="y") for n in ("a", "b")], style.figure("c", "t", x="x", y="y")],
        source="From nowhere.",
    )
    inner = '<svg width="200" height="5" id="s"><defs id="defs-0a1b2c"/><g clip-path="url(#clip0a1b2cxy)"/></svg>'
    text = pictures.compose(panel, [{"svg": inner, "width": 200, "height": 5}] * 3)
    root = ElementTree.fromstring(text)
    words = "\n".join(root.itertext())
    assert "n: 2" in words and "K: four" in words and "A sentence & <more>." in words and "From nowhere." in words
    places = [(int(e.get("x")), int(e.get("y"))) for e in root if e.tag.endswith("svg")]
    assert places[0][1] == places[1][1] < places[2][1] and places[0][0] == places[2][0] < places[1][0]
    assert "0a1b2c" not in text and 'id="defs-f00"' in text and "url(#clipf01xy)" in text


def test_unknown_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture 'two-knob'. The nearest known one is 'two-knobs'"):
        draw(["two-knob"], tmp_path)
    with pytest.raises(FileNotFoundError, match="CHROMIUM"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHROMIUM", str(tmp_path / "none"))
            draw(["selfcheck"], tmp_path)


@pytest.mark.browser
@pytest.mark.slow
def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        done = CliRunner().invoke(app, ["figures", "sweeps", "memory-fills-up", "--to", str(tmp_path / folder)])
        assert done.exit_code == 0, done.output
    for name in ("sweeps", "memory-fills-up"):
        one, two = ((tmp_path / folder / f"{name}.svg").read_bytes() for folder in ("one", "two"))
        assert one == two and ElementTree.fromstring(one).find("{*}title").text == PICTURES[name].make().sentence
        assert (pictures.folder() / f"{name}.svg").is_file(), "`labkit figures` draws it"
