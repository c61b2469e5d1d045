"""A FigureWidget that many can stand on a page, and that the browser sees as it is, not as it was when it was made.

plotly's own figure has habits that hurt a notebook full of sliders:

- Every figure brings its own 5 MB of code, and if the browser has not taken it in within two seconds (a slow computer,
  several figures at once), anywidget drops all that is sent later: the figure is drawn but never moves again. Here the
  code travels once for all figures, a figure waits for it as long as it takes, and hears what is sent in any case.
- After every redraw the browser sends back what it filled in, and plotly trips over arrays in it (a ValueError in the
  kernel). Here that is not sent.
- Every change draws the whole figure anew. Here a batch update that only moves points draws the points alone.
- A figure's state is that of the moment it was made; later changes travel as messages, which a browser that has not
  drawn the figure yet loses. Here the state is the present one whenever it is asked for, the figure is announced to
  the browser when a box or a cell first refers to it (so fill it first, then put it into a box), and it is drawn once
  more if it changed between that and the first drawing.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import anywidget
import ipywidgets as W
import plotly
import plotly.graph_objects as go
import traitlets

__all__ = ["LiveFigure"]

# Where the page keeps the code: two versions of plotly, or of what is kept, may meet on one page.
_SHARED = f"labkit-plotly-{plotly.__version__}-2"


class _Library(anywidget.AnyWidget):
    """plotly's code, handed to the page once."""

    code = traitlets.Unicode().tag(sync=True)
    _esm = f"""
    export default {{ initialize({{ model }}) {{
      globalThis["{_SHARED}"] ??= (async () => {{
        const url = URL.createObjectURL(new Blob([model.get("code")], {{ type: "text/javascript" }}));
        try {{ return {{ made: (await import(url)).default, Plotly: globalThis.Plotly }}; }}
        finally {{ URL.revokeObjectURL(url); }}
      }})();
    }} }};
    """


@cache
def _library() -> _Library:
    return _Library(code=str(go.FigureWidget._esm))


class LiveFigure(go.FigureWidget):
    """A `go.FigureWidget` for pages with many of them; arguments are the same."""

    _esm = f"""
    const later = ms => new Promise(done => setTimeout(done, ms));
    // What plotly's Python side packed: columns of numbers as bytes, and a word for "unset".
    const column = ({{ dtype, buffer: at }}) =>
      new globalThis[dtype[0].toUpperCase() + dtype.slice(1) + "Array"](
        at.buffer.slice(at.byteOffset, at.byteOffset + at.byteLength));
    const read = value => value === "_undefined_" ? undefined
      : Array.isArray(value) ? value.map(read)
      : value === null || typeof value !== "object" ? value
      : value.dtype && value.buffer ? column(value)
      : Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, read(inner)]));
    // New points in lines, dots and bars, between axes whose ends are fixed, move nothing else: plotly's animation
    // without a transition draws the traces and neither axes nor legend. It removes every trace that it is not given,
    // cannot draw other kinds, and neither styles new bars nor clears lines that lose their last point.
    const light = (el, {{ style_data, layout_data, style_traces }}) => {{
      const at = el._fullLayout, axes = [...at._subplots.xaxis, ...at._subplots.yaxis];
      return !document.hidden && Object.keys(layout_data ?? {{}}).length === 0
        && el._fullData.every(t => t.visible === true && ["scatter", "bar"].includes(t.type))
        && axes.map(id => at[id[0] + "axis" + id.slice(1)]).every(a => !a.autorange && !/category/.test(a.type))
        && Object.entries(style_data).every(([name, values]) => ["x", "y", "text", "marker.size"].includes(name)
          && values.every((value, i) => {{
            const trace = el._fullData[style_traces[i]], count = value?.length;
            return value === undefined || (trace.type === "bar" ? count === trace[name]?.length : count !== 0);
          }}));
    }};
    const draw = async (Plotly, el, sent) => {{
      const {{ style_data, layout_data, style_traces }} = sent;
      if (!light(el, sent))
        return Plotly.update(el, {{ ...style_data, _doNotReportToPy: true }}, layout_data ?? {{}}, style_traces);
      const data = el.data.map(() => ({{}}));
      for (const [name, values] of Object.entries(style_data))
        values.forEach((value, i) => {{ if (value !== undefined) data[style_traces[i]][name] = value; }});
      const now = {{ transition: {{ duration: 0 }}, frame: {{ duration: 0, redraw: false }}, mode: "afterall" }};
      const done = Plotly.animate(el, {{ data, traces: data.map((_, i) => i) }}, now);
      await Promise.race([done, later(500)]);  // it never settles if the figure is drawn anew meanwhile
    }};
    // A model whose code came late is given nothing any more (anywidget 0.11 waits two seconds). Its handler of
    // messages, as ipywidgets made it, needs no code of ours, and takes the place of the one that waits.
    const listen = model => {{
      model.on("change:_listening", own => {{
        const plain = Object.getPrototypeOf(Object.getPrototypeOf(own))._handle_comm_msg;
        own.comm?.on_msg(plain.bind(own));
      }});
      model.set("_listening", true);
    }};
    export default {{ async render({{ model, el, ...rest }}) {{
      listen(model);
      while (!globalThis["{_SHARED}"]) await later(50);
      const {{ made, Plotly }} = await globalThis["{_SHARED}"];
      // Not sent: all that plotly filled in by itself, which comes after other changes and serves nobody here.
      const set = (name, value) => {{ if (!/Deltas?$/.test(name)) model.set(name, value); }};
      // `update` below draws it, unless a bundle of plotly does not show itself to the page
      const get = name => Plotly && name === "_py2js_update" ? null : model.get(name);
      const context = {{ model: {{ ...model, get, set }}, el, ...rest }};
      const widget = typeof made === "function" ? await made() : made;
      await widget.initialize?.(context);
      const {{ width = 700, height = 450 }} = model.get("_widget_layout");
      el.style.containIntrinsicSize = `auto ${{width}}px auto ${{height}}px`;
      el.style.contentVisibility = "auto";  // a figure out of sight is neither styled, laid out nor painted
      const heard = [], on = (...heed) => {{ heard.push(heed); model.on(...heed); }};
      let remove, waiting = false, drawn = 0, drawing;
      const redraw = () => {{
        waiting = false; drawn += 1; drawing = Promise.resolve();  // what was not yet drawn is in the state
        remove?.();
        heard.splice(0).forEach(heed => model.off(...heed));  // else plotly's own handlers would add up
        remove = widget.render({{ ...context, model: {{ ...context.model, on }} }});
        el.on("plotly_transitioned", () => el.emit("plotly_afterplot"));  // as after every other drawing
      }};
      redraw();
      const renewed = () => {{ if (!waiting) {{ waiting = true; queueMicrotask(redraw); }} }};
      const update = () => {{  // one after another, in the order in which they were sent
        const sent = Plotly && read(model.get("_py2js_update")), before = drawn;
        if (sent) drawing = drawing.then(() => before === drawn && draw(Plotly, el, sent)).catch(console.error);
      }};
      // The browser compiles what runs often: the first moves would take twice as long as later ones. So each figure
      // draws what it shows once more as soon as nobody waits for anything.
      const rehearse = () => {{
        if (!el.data) return;
        const again = name => el.data.map(trace => trace[name]), style_traces = el.data.map((_, i) => i);
        const sent = {{ style_data: {{ x: again("x"), y: again("y") }}, layout_data: {{}}, style_traces }};
        if (light(el, sent)) return draw(Plotly, el, sent);  // any other way an axis may forget that it has names
      }};
      const whenIdle = globalThis.requestIdleCallback ?? setTimeout;  // Safari has none
      if (Plotly) whenIdle(() => {{ drawing = drawing.then(rehearse).catch(console.error); }});
      model.on("change:_py2js_update", update);
      model.on("change:_widget_data", renewed);
      model.on("change:_widget_layout", renewed);
      model.send("drawn");
      return () => remove?.();
    }} }};
    """

    # Counted here alone: two messages less for every redraw.
    _last_layout_edit_id = traitlets.Integer(0)
    _last_trace_edit_id = traitlets.Integer(0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._wanted, self._announced = False, (0, 0)
        super().__init__(*args, **kwargs)
        self.on_msg(self._hear)

    def open(self) -> None:
        """Announce the widget to the browser, unless nobody has referred to it yet."""
        if self._wanted and self.comm is None:
            _library()
            self._announced = self._edits()
            super().open()

    @property
    def model_id(self) -> str:
        """What a box or a cell calls this widget by; the first to ask announces it."""
        self._wanted = True
        self.open()
        return str(W.Widget.model_id.fget(self))

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The widget's state, with data and layout as they are now."""
        state = super().get_state(key, drop_defaults)
        if hasattr(self, "_layout_obj"):  # else it is still being made
            for name, now in (("_widget_data", self._data), ("_widget_layout", self._layout_obj._props)):
                if name in state:
                    state[name] = self.trait_metadata(name, "to_json")(deepcopy(now), self)
        return state

    def _edits(self) -> tuple[int, int]:
        return self._last_layout_edit_id, self._last_trace_edit_id

    def _hear(self, _: Any, message: Any, buffers: Any) -> None:
        """The browser has drawn the state it had: if there is a newer one, it may have lost what lies between."""
        if message == "drawn" and self._edits() != self._announced:
            self.send_state(["_widget_data", "_widget_layout"])

    @staticmethod
    def _remove_overlapping_props(*_: Any) -> list[Any]:
        """What Python set stays set, whatever defaults the browser reports.

        plotly would now take back what the browser reports as a default of its own. But the browser also reports
        columns of numbers that were set, as a dict of their entries, and taking these back raises a ValueError.
        """
        return []

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        assert self.model_id  # plotly refers to the widget without asking for its name
        return super()._repr_mimebundle_(*args, **kwargs)
