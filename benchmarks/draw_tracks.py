"""A picture of how objects are followed: a row a sequence, shapes alone, for the frames are not ours to publish.

Dark where the object is and was followed, red what was followed and is not it, blue what was missed.

python benchmarks/draw_tracks.py OUT.png [--sequences blackswan libby] [--moments 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from eval_objects import davis, track_objects

from streamstyle.config import AnalysisOptions
from streamstyle.media.masks import enlarge_labels
from streamstyle.media.stills import read_still

BOTH, WRONG, MISSED, NEITHER = (70, 60, 60), (70, 70, 230), (240, 160, 90), (244, 244, 244)  # BGR
WIDTH_PX = 240


def row(name: str, moments: int, every: int) -> np.ndarray:
    """Evenly spaced frames of a sequence, the last among them, [h, w, 3] uint8 BGR."""
    pictures, annotations = (
        sorted((davis() / kind / "480p" / name).iterdir()) for kind in ("JPEGImages", "Annotations")
    )
    at = set(np.linspace(len(pictures) / moments / 2, len(pictures) - 1, moments).astype(int).tolist())
    tiles = []
    for i, labelled in enumerate(
        track_objects(pictures[0].parent, annotations[0], AnalysisOptions(analyse_every=every))
    ):
        if i in at:
            tiles.append(tile(labelled.labels, read_still(annotations[i]).pixels >= 128))
    return np.hstack(tiles)


def tile(labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """One frame, small, with a margin."""
    seen = enlarge_labels(labels, true.shape) == 1
    colors = np.array([NEITHER, MISSED, WRONG, BOTH], np.uint8)[true + 2 * seen]
    small = cv2.resize(colors, (WIDTH_PX, WIDTH_PX * true.shape[0] // true.shape[1]), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", nargs="+", default=["blackswan", "car-shadow", "horsejump-high", "libby"])
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="--analyse-every, as of streamstyle run")
    said = parser.parse_args()
    rows = [row(name, said.moments, said.every) for name in said.sequences]
    cv2.imwrite(str(said.out), np.vstack(rows))


if __name__ == "__main__":
    main()
