"""A picture of how objects are followed: a row a sequence, shapes alone, for the frames are not ours to publish.

Grey where the object is and was followed, red what was followed and is not it, blue what was missed; the black line is
the object's outline as DAVIS has it, the orange one ours. Beside each row stands its J, of every frame.

python benchmarks/draw_tracks.py OUT.png [--sequences blackswan libby] [--moments 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from eval_objects import davis, jaccard, track_objects

from streamstyle.config import AnalysisOptions
from streamstyle.media.stills import read_still
from streamstyle.tracks.outlines import enlarged_along_colors

BOTH, WRONG, MISSED, NEITHER = (190, 180, 180), (150, 150, 245), (245, 200, 150), (248, 248, 248)  # BGR
TRUE_LINE, OUR_LINE = (30, 20, 20), (0, 110, 240)
WIDTH_PX, TITLE_PX = 240, 150
FINER = 4
"""Pictures are drawn so many times as large as they are shown, for smooth lines."""
GOOD, WORST = ("blackswan", "car-shadow", "horsejump-high", "libby"), ("kite-surf", "drift-straight")


def row(name: str, moments: int, every: int) -> np.ndarray:
    """Evenly spaced frames of a sequence, the last among them, [h, w, 3] uint8 BGR."""
    pictures, annotations = (
        sorted((davis() / kind / "480p" / name).iterdir()) for kind in ("JPEGImages", "Annotations")
    )
    at = set(np.linspace(len(pictures) / moments / 2, len(pictures) - 1, moments).astype(int).tolist())
    tiles, seen, truth = [], [], []
    for i, labelled in enumerate(
        track_objects(pictures[0].parent, annotations[0], AnalysisOptions(analyse_every=every))
    ):
        truth.append(read_still(annotations[i]).pixels >= 128)
        seen.append(enlarged_along_colors(labelled.labels, labelled.frame) == 1)
        if i in at:
            tiles.append(tile(seen[-1], truth[-1]))
    return np.hstack([title(name, f"J {jaccard(seen, truth):.2f}", tiles[0].shape[0]), *tiles])


def tile(seen: np.ndarray, true: np.ndarray) -> np.ndarray:
    """One frame, small, with a margin."""
    colors = np.array([NEITHER, MISSED, WRONG, BOTH], np.uint8)[true + 2 * seen]
    size = (WIDTH_PX, WIDTH_PX * true.shape[0] // true.shape[1])
    large = cv2.resize(colors, (FINER * size[0], FINER * size[1]), interpolation=cv2.INTER_NEAREST)
    for mask, line in ((true, TRUE_LINE), (seen, OUR_LINE)):
        enlarged = cv2.resize(mask.astype(np.uint8), large.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(enlarged, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(large, outlines, -1, line, FINER + 1)
    small = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def title(name: str, score: str, height: int) -> np.ndarray:
    """What stands beside a row."""
    beside = np.full((height, TITLE_PX, 3), 255, np.uint8)
    for k, text in enumerate((name, score)):
        place = (4, height // 2 - 4 + 20 * k)
        cv2.putText(beside, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return beside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", nargs="+", default=[*GOOD, *WORST])
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="--analyse-every, as of streamstyle run")
    said = parser.parse_args()
    rows = [row(name, said.moments, said.every) for name in said.sequences]
    cv2.imwrite(str(said.out), np.vstack(rows))


if __name__ == "__main__":
    main()
