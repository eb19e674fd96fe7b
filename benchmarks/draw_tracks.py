"""A picture of how objects are followed: a row a sequence, the object tinted, the true one outlined.

python benchmarks/draw_tracks.py OUT.jpg [--sequences blackswan libby] [--moments 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from eval_objects import davis, track_objects

from streamstyle.config import AnalysisOptions
from streamstyle.masks import enlarge_labels
from streamstyle.media.stills import read_still

TINT, OUTLINE = np.array((40, 60, 255)), (255, 255, 255)
WIDTH_PX = 320


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
            tiles.append(tile(cv2.imread(str(pictures[i])), labelled.labels, read_still(annotations[i]).pixels >= 128))
    return np.hstack(tiles)


def tile(picture: np.ndarray, labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """One frame, small."""
    seen = enlarge_labels(labels, picture.shape[:2]) == 1
    picture[seen] = (0.5 * picture[seen] + 0.5 * TINT).astype(np.uint8)
    borders, _ = cv2.findContours(true.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, borders, -1, OUTLINE, 3)
    return cv2.resize(
        picture, (WIDTH_PX, WIDTH_PX * picture.shape[0] // picture.shape[1]), interpolation=cv2.INTER_AREA
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", nargs="+", default=["blackswan", "car-shadow", "horsejump-high", "libby"])
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="--analyse-every, as of streamstyle run")
    said = parser.parse_args()
    rows = [row(name, said.moments, said.every) for name in said.sequences]
    cv2.imwrite(str(said.out), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
