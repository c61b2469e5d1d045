"""Find the browser that the browser tests drive, or say how to get one.

``python tests/chromium.py`` (``make test`` runs it) prints where Chromium is. Where there is none it installs
it if that takes no questions (root on Debian and its kin); elsewhere it prints the one command to type, and
the browser tests, and only they, are reported as not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from labkit.explore.browser import find

APT = (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"])


def command() -> str:
    """The one command that installs Chromium on this kind of machine."""
    if sys.platform == "darwin":
        return "brew install --cask chromium"
    for program, line in (
        ("apt-get", "sudo apt-get update && sudo apt-get install -y chromium"),
        ("dnf", "sudo dnf install -y chromium"),
        ("pacman", "sudo pacman -S --noconfirm chromium"),
        ("zypper", "sudo zypper install -y chromium"),
    ):
        if shutil.which(program):
            return line
    return "install Chromium or Chrome and set CHROMIUM to its path"


def is_root_on_debian() -> bool:
    """Whether ``apt-get`` can be used here without asking anyone."""
    return Path("/etc/debian_version").exists() and os.geteuid() == 0 and shutil.which("apt-get") is not None


def main() -> int:
    path = find()
    if path is None and is_root_on_debian() and os.environ.get("CHROMIUM") != "none":
        print("No Chromium here: installing Debian's.", flush=True)
        for line in APT:
            done = subprocess.run(line, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
            if done.returncode:
                print(f"`{' '.join(line)}` failed; the browser tests will be reported as not run.")
                return 0
        path = find()
    if path is None:
        print(f"No Chromium here: the browser tests will be reported as not run. To run them: {command()}")
    else:
        print(f"Browser tests use {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
