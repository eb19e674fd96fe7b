"""The demo: a minute's work that shows what the program is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.probe import probe
from streamstyle.nets import weights
from streamstyle.pipeline import stylize
from streamstyle.preview import preview
from streamstyle.sheets import contact_sheet, film_frame, style_sheet, write_png

ANALYSIS = AnalysisOptions(detail=0.4)
"""A little finer than the default, at which the raised hand is one region with the slope behind it."""
BUNNY = Look(
    background="jungle-woodcut",
    foreground="water-lilies",
    objects=(
        ObjectStyle("bunny", "starry", point=(470, 400), at_s=2.0),
        ObjectStyle("bunny", "starry", point=(545, 60), at_s=2.0),
        ObjectStyle("bunny", "", point=(190, 482), at_s=2.0, remove=True),  # a stone as grey, that he comes to stand by
    ),
)
START_S = 2.0
SIZE_PX = 480
CALM = StyleOptions(calm=1.0)


def demo(
    folder: str | Path,
    *,
    say: Callable[[str], None] = print,
    on_frames: Callable[[int, int | None], None] | None = None,
) -> None:
    """Write two films and three pictures into folder, saying before each what is made and by which command.

    Cost: one to three minutes on two cores once the weights are cached.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "bigbuckbunny.mp4"
    shutil.copyfile(weights.fetch("bigbuckbunny"), clip)
    output = OutputOptions(size=SIZE_PX, overwrite=True)

    say(
        f"1/5  objects.png: streamstyle preview {clip} {folder}/objects.png --at {START_S:g} "
        f"--detail {ANALYSIS.detail:g}"
    )
    preview(clip, folder / "objects.png", at_s=START_S, options=Options(ANALYSIS), overwrite=True)

    words = (f"-{o.name}@{o.where}" if o.remove else f"{o.name}@{o.where}={o.style}" for o in BUNNY.objects)
    places = " ".join(f'--object "{word}"' for word in words)
    say(
        f"2/5  bunny.mp4: streamstyle run {clip} {folder}/bunny.mp4 --size {SIZE_PX} --start {START_S:g} "
        f"{places} --background {BUNNY.background} --foreground {BUNNY.foreground} "
        f"--detail {ANALYSIS.detail:g} --calm 1"
    )
    BUNNY.write(folder / "bunny.toml")
    options = Options(ANALYSIS, CALM, replace(output, start=START_S))
    stylize(clip, folder / "bunny.mp4", look=BUNNY, options=options, on_frames=on_frames)

    say(f"3/5  starry.mp4: streamstyle run {clip} {folder}/starry.mp4 --size {SIZE_PX} --style starry --calm 1")
    options = Options(painting=CALM, output=output)
    stylize(clip, folder / "starry.mp4", look="starry", options=options, on_frames=on_frames)

    say("4/5  before-after.png: the film and the painted film at three moments")
    write_png(folder / "before-after.png", before_after(clip, folder / "bunny.mp4", START_S))

    say(f"5/5  styles.png: streamstyle styles --sheet {folder}/styles.png")
    style_sheet(folder / "styles.png", overwrite=True)
    say(f"done: open {folder}/bunny.mp4 and the pictures beside it")


def before_after(film: Path, painted: Path, start_s: float, moments: int = 3) -> np.ndarray:
    """Frames of a film above the same moments painted, [H, W, 3] uint8 RGB."""
    length_s = probe(painted).duration_s or 1.0
    at = [length_s * (i + 0.5) / moments for i in range(moments)]
    tiles = [(f"{start_s + t:.1f} s", film_frame(film, start_s + t)) for t in at]
    tiles += [("painted", film_frame(painted, t)) for t in at]
    return contact_sheet(tiles, columns=moments, width_px=480)
