"""One notebook open in JupyterLab: run it, move what a person moves, read what a person sees.

Figures are named by their ``layout.meta`` (a string), by a part of their title, or by their place on the page
(0, 1, ...). Sliders and fields are named by the whole description beside them, buttons by a part of the text
on them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Locator, Page

READY = """() => { const c = window.jupyterapp?.shell?.currentWidget?.context?.sessionContext;
  return Boolean(c && c.isReady && c.session?.kernel?.status === 'idle'); }"""

LATE = "page: [anywidget] Failed to initialize model."

# The page's own notes: errors that the kernel sends (also those of a widget's callback, which no cell shows),
# and helpers to find figures and to note when they were drawn.
INSTALL = """() => {
  const lab = window.__lab = {errors: [], keys: [], drawn: new Map()};
  const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
  kernel.iopubMessage.connect((_, m) => {
    if (m.header.msg_type === 'error') lab.errors.push(`${m.content.ename}: ${m.content.evalue}`);
  });
  document.addEventListener('keydown', () => lab.keys.push(performance.now()), true);
  lab.all = () => [...document.querySelectorAll('.js-plotly-plot')];
  lab.title = gd => { const t = gd.layout?.title; return (typeof t === 'string' ? t : t?.text) ?? ''; };
  lab.find = name => {
    const all = lab.all();
    if (typeof name === 'number') return all[name];
    return all.find(g => g.layout?.meta === name) ?? all.find(g => lab.title(g).includes(name));
  };
  // After a redraw the picture is in the page; the next animation frame is when it can be seen.
  // The page is searched here only, so that counting takes no time from what is measured.
  lab.watch = name => {
    const gd = lab.find(name);
    if (lab.drawn.get(name)?.gd === gd) return;
    const frames = [];
    lab.drawn.set(name, {gd, frames});
    gd.on('plotly_afterplot', () => requestAnimationFrame(() => frames.push(performance.now())));
  };
  lab.frames = name => lab.drawn.get(name).frames;
}"""

BARRIER = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
  await kernel.requestExecute({code: '', silent: true, store_history: false}).done;
}"""

READ = """name => {
  const gd = window.__lab.find(name);
  if (!gd) return null;
  const plain = v => ArrayBuffer.isView(v) ? Array.from(v) : Array.isArray(v) ? v.map(plain) : v;
  const keys = ['x', 'y', 'z', 'text', 'customdata', 'name', 'type', 'visible', 'mode'];
  return {
    title: window.__lab.title(gd), meta: gd.layout?.meta ?? null,
    shown: gd.getBoundingClientRect().height > 0,
    annotations: (gd.layout?.annotations ?? []).map(a => a.text),
    traces: gd._fullData.map(
      t => Object.fromEntries(keys.filter(k => t[k] !== undefined).map(k => [k, plain(t[k])]))),
  };
}"""

# What stands in the picture itself, whatever the figure's data say: width and height in pixels of each mark.
STANDS = """name => {
  const marks = {bars: '.barlayer .point path', dots: '.scatterlayer .points path', lines: '.scatterlayer .js-line',
                 words: '.scatterlayer .textpoint', grids: '.heatmaplayer image', pictures: '.layer-above image'};
  const gd = window.__lab.find(name);
  const sizes = e => { const box = e.getBBox(); return [box.width, box.height]; };
  return Object.fromEntries(
    Object.entries(marks).map(([kind, mark]) => [kind, [...gd.querySelectorAll(mark)].map(sizes)]));
}"""


class LabPage:
    """A page of JupyterLab with one notebook in it; `Lab.open` makes these. `page` is playwright's page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        page.on("console", lambda m: self.console.append(m.text[:300]) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.console.append(f"page: {str(e)[:300]}"))

    def goto(self, url: str, seconds: float = 180) -> None:
        """Open `url` and wait until the notebook stands there with an idle kernel.

        The status circle reads "idle" before there is a session, and a cell run then opens a dialog instead:
        so the application itself is asked.
        """
        self.page.goto(url)
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=seconds * 1000)
        self.page.wait_for_function(READY, timeout=seconds * 1000)
        self.page.evaluate(INSTALL)

    def run_all(self, seconds: float = 300) -> None:
        """Run every cell and wait until the kernel is idle. AssertionError if a cell raised, quoting it."""
        self.page.evaluate(
            "() => { window.jupyterapp.commands.execute('notebook:run-all-cells')"
            ".then(() => window.__lab.ran = true); }"
        )
        self.page.wait_for_function("() => window.__lab.ran", timeout=seconds * 1000)
        self.wait_idle(seconds)
        raised = self.cell_errors()
        assert not raised, f"the notebook raised: {raised}"

    def wait_idle(self, seconds: float = 60) -> None:
        """Wait until the kernel has answered everything it was asked, widgets' messages included.

        The status alone would not do: it still reads "idle" while a message is on its way. The kernel answers
        in order, so it is sent an empty request; twice, since a widget holds its newest change back until the
        one before it has been answered.
        """
        for _ in range(2):
            self.page.evaluate(BARRIER)
        self.page.wait_for_function(READY, timeout=seconds * 1000)

    def cell_errors(self) -> list[str]:
        """The errors in the notebook's outputs, as ``Name: message``."""
        return self.page.evaluate("""() => {
          const out = [];
          for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells)
            for (const o of (cell.outputs?.toJSON() ?? []))
              if (o.output_type === 'error') out.push(`${o.ename}: ${o.evalue}`);
          return out; }""")

    def problems(self) -> list[str]:
        """All that went wrong so far: cells' errors, callbacks' errors, and the browser's own.

        Except that a busy browser took in a figure's code `LATE`: the figure moves all the same, which
        test_browser_harness.py holds.
        """
        seen = self.cell_errors() + self.page.evaluate("window.__lab.errors") + self.console
        return [problem for problem in dict.fromkeys(seen) if problem != LATE]

    def shut_down_kernel(self) -> None:
        """End this notebook's kernel, so that a test leaves no process behind it."""
        self.page.evaluate(
            "() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.shutdown()"
        )

    def figures(self) -> list[str]:
        """The titles of all figures on the page, in order."""
        return self.page.evaluate("() => window.__lab.all().map(window.__lab.title)")

    def figure(self, name: str | int, seconds: float = 60) -> dict[str, Any]:
        """What a figure shows now: ``title``, ``meta``, ``shown``, ``annotations`` and ``traces``.

        Each trace is a dict with those of x, y, z, text, customdata, name, type, visible and mode that it
        has; arrays are lists. AssertionError, naming the figures there are, if it is not there in `seconds`.
        """
        self._wait_for_figure(name, seconds)
        return self.page.evaluate(READ, name)

    def marks(self, name: str | int) -> dict[str, list[list[float]]]:
        """What stands in a figure's picture: for bars, dots, lines, words, grids and pictures their sizes in pixels."""
        self.page.wait_for_timeout(200)  # some frames, so that what was sent is drawn
        return self.page.evaluate(STANDS, name)

    def slider(self, description: str) -> Locator:
        """The handle of a slider, ready for ``press``."""
        return self._field(description).locator(".noUi-handle").first

    def slider_value(self, description: str) -> float:
        """Where the slider stands; for a slider over a list of options, the option's index."""
        return float(self.slider(description).get_attribute("aria-valuenow") or "nan")

    def press(
        self,
        description: str,
        key: str = "ArrowRight",
        moves: int = 1,
        figures: Sequence[str | int] = (),
        seconds: float = 60,
        pause_ms: int = 60,
    ) -> list[float]:
        """Press `key` on a slider `moves` times and wait, after each, until all of `figures` were redrawn.

        Returns the milliseconds from each key press to the frame that shows the last of the figures' first
        redraws; without figures, an empty list, once the kernel is idle. AssertionError when a figure is not
        redrawn.
        """
        for name in figures:
            self._wait_for_figure(name, seconds)
            self.page.evaluate("name => window.__lab.watch(name)", name)
        names = list(figures)
        handle = self.slider(description)
        handle.scroll_into_view_if_needed()
        handle.focus()
        taken: list[float] = []
        for _ in range(moves):
            before = self.page.evaluate("names => names.map(n => window.__lab.frames(n).length)", names)
            self.page.keyboard.press(key)
            try:
                self.page.wait_for_function(
                    "([names, before]) => names.every((n, i) => window.__lab.frames(n).length > before[i])",
                    arg=[names, before],
                    timeout=seconds * 1000,
                )
            except Exception as error:
                value = self.slider_value(description)
                raise AssertionError(
                    f"{key} on {description!r} (now {value}) did not redraw all of {names} in {seconds} s; "
                    f"problems: {self.problems()}"
                ) from error
            if names:
                taken.append(
                    self.page.evaluate(
                        """([names, before]) => { const lab = window.__lab;
                          const frames = names.map((n, i) => lab.frames(n)[before[i]]);
                          return Math.max(...frames) - lab.keys.at(-1); }""",
                        [names, before],
                    )
                )
            self.page.wait_for_timeout(pause_ms)
        self.wait_idle(seconds)
        return taken

    def type_text(self, description: str, text: str) -> None:
        """Replace what stands in a text field or area, as typing and leaving the field does."""
        field = self._field(description).locator("textarea, input[type=text], input[type=number]").first
        field.scroll_into_view_if_needed()
        field.fill(text)
        field.press("Tab")
        self.wait_idle()

    def choose(self, description: str, option: str) -> None:
        """Choose an option of a dropdown by its label."""
        self._field(description).locator("select").first.select_option(label=option)
        self.wait_idle()

    def click(self, text: str) -> None:
        """Click the button on which `text` is written."""
        self.page.locator("button.jupyter-button", has_text=text).first.click()
        self.wait_idle()

    def outputs(self) -> str:
        """All text that the notebook's outputs show, widgets' labels and HTML included."""
        return "\n".join(self.page.locator(".jp-OutputArea-output").all_inner_texts())

    def _field(self, description: str) -> Locator:
        whole = re.compile(rf"^\s*{re.escape(description)}\s*$")
        label = self.page.locator(".widget-label", has_text=whole)
        return (
            self.page.locator(".jupyter-widgets, .widget-slider", has=label)  # a list's slider is only the latter
            .filter(has=self.page.locator(".noUi-handle, textarea, input, select"))
            .last
        )

    def _wait_for_figure(self, name: str | int, seconds: float) -> None:
        try:
            self.page.wait_for_function(
                "name => { const g = window.__lab.find(name); return Boolean(g && g._fullData?.length); }",
                arg=name,
                timeout=seconds * 1000,
            )
        except Exception as error:
            raise AssertionError(f"no figure {name!r} on the page; there are {self.figures()}") from error
