"""Language models made of memories. All of them have one face: init_state, sleep, wake, forward."""

from labkit.models.config import SleepConfig
from labkit.models.sleep_lm import Memories, Output, SleepLM
from labkit.models.state import SleepState

__all__ = ["Memories", "Output", "SleepConfig", "SleepLM", "SleepState"]
