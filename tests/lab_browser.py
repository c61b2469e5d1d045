"""Drive the lab's notebooks in a real JupyterLab, in a real headless Chromium, with the keyboard.

    with Lab(notebooks=[REPO / "notebooks" / "02_sleep.ipynb"], data=REPO / "data") as lab:
        with lab.open("02_sleep.ipynb") as page:
            page.run_all()
            before = page.figure("mind-graph")
            milliseconds = page.press("sleep passes N, graph", "ArrowRight", moves=30, figures=["mind-graph"])
            after = page.figure("mind-graph")
            assert page.problems() == []

The server works on a copy of the notebooks and the data, with settings of its own: a test may edit either,
and a person's own JupyterLab is neither used nor changed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Playwright, sync_playwright

import chromium
from lab_page import LabPage

CHROMIUM_FLAGS = [
    "--no-sandbox",  # Chromium refuses its sandbox to root, and containers are root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
NO_NEWS = {"checkForUpdates": False, "fetchNews": "false", "doNotDisturbMode": True}


class Lab:
    """A JupyterLab server on a copy of `notebooks` and `data`, and one Chromium.

    notebooks: files, or one folder, copied to ``root``. data: a folder, copied to ``root/data``; kernels get
    ``LABKIT_DATA`` set to the copy. env: more variables for the kernels. Raises RuntimeError, with the end of
    the server's log, if the server does not come up.
    """

    def __init__(
        self,
        notebooks: Path | Sequence[Path],
        data: Path | None = None,
        env: dict[str, str] | None = None,
        start_seconds: float = 90,
    ) -> None:
        self._sources = [notebooks] if isinstance(notebooks, Path) else list(notebooks)
        self._data = data
        self._env = env or {}
        self._start_seconds = start_seconds
        self.root = Path()
        self.token = secrets.token_hex(16)
        self.base = ""

    def __enter__(self) -> Lab:
        self.root = Path(tempfile.mkdtemp(prefix="lab-"))
        try:
            self._copy()
            self._start_server()
            self._playwright: Playwright = sync_playwright().start()
            self._browser: Browser = self._playwright.chromium.launch(
                executable_path=chromium.find(), args=CHROMIUM_FLAGS, headless=True
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_browser"):
            self._browser.close()
        if hasattr(self, "_playwright"):
            self._playwright.stop()
        if hasattr(self, "_server"):
            _stop(self._server)
        shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def open(self, name: str, width: int = 1400, height: int = 1000, first: str = "") -> Iterator[LabPage]:
        """Open the copied notebook `name` in a page of its own, which runs the script `first` before all others, and
        wait until its kernel is idle.
        """
        context = self._browser.new_context(viewport={"width": width, "height": height})
        context.add_init_script(first)
        try:
            page = LabPage(context.new_page())
            # A workspace of its own: two pages of one workspace would fight over the open tabs.
            workspace = secrets.token_hex(4)
            page.goto(f"{self.base}/lab/workspaces/{workspace}/tree/{name}?token={self.token}&reset")
            yield page
        finally:
            try:
                page.shut_down_kernel()
            finally:
                context.close()

    def log(self) -> str:
        """What the server has printed so far."""
        path = self.root / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _copy(self) -> None:
        for source in self._sources:
            if source.is_dir():
                shutil.copytree(source, self.root, dirs_exist_ok=True)
            else:
                shutil.copy(source, self.root / source.name)
        if self._data is not None:
            shutil.copytree(self._data, self.root / "data")
            self._env["LABKIT_DATA"] = str(self.root / "data")

    def _start_server(self) -> None:
        settings = self.root / ".jupyter" / "settings"
        quiet = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text(json.dumps(NO_NEWS))
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "share",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        env = {**os.environ, **{key: str(settings.parent / sub) for key, sub in own.items()}, **self._env}
        port = _free_port()
        line = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
        line += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        line += [f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True"]
        line += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        if os.geteuid() == 0:
            line.append("--allow-root")
        self.base = f"http://127.0.0.1:{port}"
        with open(self.root / "server.log", "wb") as log:
            self._server = subprocess.Popen(
                line, cwd=self.root, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        end = time.monotonic() + self._start_seconds
        while time.monotonic() < end and self._server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.base}/api?token={self.token}", timeout=2).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"JupyterLab did not answer on {self.base}; its log ends:\n{self.log()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _stop(server: subprocess.Popen[Any]) -> None:
    """End the server the way it shuts its kernels down itself, and by force if it does not."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
