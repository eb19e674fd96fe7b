"""Paint films: every object and the background in a style of its own, streamed, with their sound.

>>> import streamstyle
>>> streamstyle.stylize("in.mp4", "out.mp4", look=streamstyle.Look(style="starry"))

Names are imported when first used, so that ``import streamstyle`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from streamstyle._version import __version__

if TYPE_CHECKING:
    from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
    from streamstyle.errors import StreamstyleError
    from streamstyle.look import Look, ObjectStyle
    from streamstyle.media.probe import probe
    from streamstyle.pipeline import stylize
    from streamstyle.stylizer import Stylizer

# Decoder, encoder and torch share the cores: torch's idle threads may spin a moment (0.03 ms) but must then sleep.
# OpenMP reads this when torch loads it, so import streamstyle before torch. Measured on two cores, one style, 640x360:
# 23 frames a second, against 18 both with endless spinning and with none; beside a busy process spinning falls to 2.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__all__ = [
    "AnalysisOptions",
    "Look",
    "ObjectStyle",
    "Options",
    "OutputOptions",
    "StreamstyleError",
    "StyleOptions",
    "Stylizer",
    "__version__",
    "probe",
    "stylize",
]

_HOME = {
    "AnalysisOptions": "config",
    "Options": "config",
    "OutputOptions": "config",
    "StyleOptions": "config",
    "StreamstyleError": "errors",
    "Look": "look",
    "ObjectStyle": "look",
    "probe": "media.probe",
    "stylize": "pipeline",
    "Stylizer": "stylizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'streamstyle' has no attribute '{name}'")
    return getattr(importlib.import_module(f"streamstyle.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
