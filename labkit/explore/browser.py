"""Where Chromium or Chrome is on this machine: still pictures are drawn by it, and tests drive it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["find"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find() -> str | None:
    """The path of Chromium or Chrome: ``$CHROMIUM`` if set ("none": do without), else a usual name.

    None where there is no browser; FileNotFoundError where ``$CHROMIUM`` names a program that is not there.
    """
    asked = os.environ.get("CHROMIUM")
    if asked == "none":
        return None
    if asked:
        path = shutil.which(asked)
        if path is None:
            raise FileNotFoundError(f"CHROMIUM is {asked!r}, where there is no program; correct or unset it.")
        return path
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return next((app for app in MAC_APPS if Path(app).exists()), None)
