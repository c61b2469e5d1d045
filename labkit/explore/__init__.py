"""What the notebooks show: sliders and figures. No model lives in here, and no widget lives outside of it."""

from __future__ import annotations

from labkit.explore.setup import setup

__all__ = ["setup"]
