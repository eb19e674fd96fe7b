"""Names of the built-in styles, in the order of the network's tables, and how a user's word finds one."""

from __future__ import annotations

import difflib

from streamstyle.errors import OptionError

NONE = "none"
"""The word for "keep the picture as it is"."""

STYLES: tuple[str, ...] = (
    "golden-haze",
    "lemon-ink",
    "pale-winter",
    "neon-shards",
    "scarlet-shore",
    "autumn-fire",
    "indigo-dots",
    "primary-night",
    "white-blossom",
    "rose-speckle",
    "burnt-umber",
    "ochre-etching",
    "water-lilies",
    "jungle-woodcut",
    "sea-mist",
    "pastel-glass",
    "crayon-dusk",
    "brick-weave",
    "bamboo-sketch",
    "starry",
    "ember",
    "paper-cut",
    "poppy-field",
    "stormy-light",
    "wave",
    "copper-blue",
)


def style_name(word: str) -> str:
    """The slug meant by a slug, a number 0..25, or ``none``.

    Raises:
        OptionError: no such style; the message names the nearest ones.
    """
    wanted = word.strip().lower().replace("_", "-").replace(" ", "-")
    if wanted == NONE or wanted in STYLES:
        return wanted
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(STYLES):
        return STYLES[int(wanted)]
    near = difflib.get_close_matches(wanted, [*STYLES, NONE], n=3, cutoff=0.4)
    near = near or [name for name in STYLES if wanted[:3] and wanted[:3] in name][:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `streamstyle styles`"
    raise OptionError(f"unknown style '{word}': {hint} (26 styles by name or number 0..25, or 'none')")


def style_number(name: str) -> int | None:
    """Row of the network's tables for a slug; None for ``none``."""
    return None if name == NONE else STYLES.index(name)
