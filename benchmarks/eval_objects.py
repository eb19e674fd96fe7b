"""How well objects are followed, on DAVIS sequences: J and F from the first frame's mask, and without a word.

make eval     or     python benchmarks/eval_objects.py [--sequences dog libby] [--frames 40] [--masks FOLDER]

Protocol, the same for every sequence and without tuning: the program gets the frames in order, at 480 lines, and in the
first mode the true mask of frame 0, in the second (zero clicks) nothing. What it gives is written as DAVIS palette
PNGs, read back, and compared by PyPI's vos-benchmark; first and last frame do not count, as in DAVIS. With zero clicks
the object is the one track that fits the truth best over the whole sequence. Region flips count how often the label
with most of the true object's pixels changes, identity switches how often its best match does, beside the same of each
frame's own numbering.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import figure, machine, save
from object_measures import changes, decay, dominant_label, matched_label, per_100_frames, recall

from streamstyle.config import AnalysisOptions
from streamstyle.gpu.transfer import choose_device
from streamstyle.masks import enlarge_labels, read_mask
from streamstyle.media.probe import probe
from streamstyle.media.stills import read_still
from streamstyle.preview import segment_frame
from streamstyle.track_export import LabelledFrame, export
from streamstyle.tracks import NOBODY, FilmObjects

ROOT = Path(__file__).resolve().parent.parent
MEASURES = ("J mean", "J recall", "J decay", "F mean", "zero clicks J mean", "region flips", "identity switches")
BASELINES = ("region flips, each frame's numbering", "identity switches, each frame's numbering")


def track_objects(folder: Path, first_mask: Path | None, options: AnalysisOptions) -> Iterator[LabelledFrame]:
    """What is evaluated: the labels of every frame of a folder, from the first one's mask, or from nothing."""
    info = probe(folder)
    mask = None if first_mask is None else read_mask(first_mask, (info.height, info.width))
    return FilmObjects(info, NOBODY, mask, options, choose_device("auto")).labelled()


def davis() -> Path:
    """The folder of DAVIS 2016, where the tests have it too."""
    return Path(os.environ.get("STREAMSTYLE_DATA", ROOT.parent / "shared" / "data")) / "vos" / "davis2016"


def first_frames(folder: Path, count: int | None, at: Path) -> Path:
    """The folder, or one of links to its first frames."""
    if count is None:
        return folder
    at.mkdir()
    for picture in sorted(folder.iterdir())[:count]:
        (at / picture.name).symlink_to(picture)
    return at


def truths(folder: Path, count: int) -> list[np.ndarray]:
    """[H, W] bool of each frame."""
    return [read_still(path).pixels >= 128 for path in sorted(folder.iterdir())[:count]]


def scores(labels: list[np.ndarray], truth: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """J and F of object 1 in every frame but the first and the last, by vos-benchmark."""
    from vos_benchmark.evaluator import Evaluator

    referee = Evaluator()
    for seen, true in zip(labels[1:-1], truth[1:-1], strict=True):
        referee.feed_frame((seen == 1).astype(np.uint8), true.astype(np.uint8))
    return np.array(referee.object_iou[1], float), np.array(referee.boundary_f[1], float)


def best_track(labels: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """J mean of the one label that fits the truth best, first and last frame aside."""
    most = max(int(seen.max()) for seen in labels) + 1
    total = np.zeros(most)
    for seen, true in zip(labels[1:-1], truth[1:-1], strict=True):
        both = np.bincount(seen[true], minlength=most)
        total += both / np.maximum(1, np.bincount(seen.ravel(), minlength=most) + true.sum() - both)
    return float(total[1:].max(initial=0) / max(1, len(truth) - 2))


def identity(labels: list[np.ndarray], truth: list[np.ndarray], suffix: str = "") -> dict[str, float]:
    """Flips and switches for every 100 frames."""
    pairs = list(zip(labels, truth, strict=True))
    flips, switches = (changes(which(*pair) for pair in pairs) for which in (dominant_label, matched_label))
    return {
        f"region flips{suffix}": per_100_frames(flips, len(truth)),
        f"identity switches{suffix}": per_100_frames(switches, len(truth)),
    }


def evaluate(name: str, count: int | None, masks: Path, options: AnalysisOptions) -> dict[str, Any]:
    """Every measure of one sequence; the masks stay in a folder of its name."""
    pictures = first_frames(davis() / "JPEGImages" / "480p" / name, count, masks / f"{name}-frames")
    annotations = davis() / "Annotations" / "480p" / name
    info = probe(pictures)
    truth = truths(annotations, info.frames or 0)
    (masks / name).mkdir()
    export(
        track_objects(pictures, sorted(annotations.iterdir())[0], options), masks / name / "%05d.png", info, {1: name}
    )
    followed = [read_still(path).pixels for path in sorted((masks / name).iterdir())]
    j, f = scores(followed, truth)
    size = truth[0].shape
    found, ordered = [], []
    for labelled in track_objects(pictures, None, options):
        found.append(enlarge_labels(labelled.labels, size))
        _, regions = segment_frame(info, labelled.frame, options, "auto")
        ordered.append(enlarge_labels(regions.ids.numpy(), size))
    return {
        "name": name,
        "frames": len(truth),
        "J mean": float(j.mean()),
        "J recall": recall(j),
        "J decay": decay(j),
        "F mean": float(f.mean()),
        "zero clicks J mean": best_track(found, truth),
        **identity(found, truth),
        **identity(ordered, truth, ", each frame's numbering"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these; the result is not saved")
    parser.add_argument("--frames", type=int, help="only so many of each, at least 6; the result is not saved")
    parser.add_argument("--masks", type=Path, help="keep the palette PNGs in this new folder")
    parser.add_argument("--edge-side", default="2", help="as of streamstyle run")
    said = parser.parse_args()
    there = sorted(path.name for path in (davis() / "JPEGImages" / "480p").glob("*"))
    unknown = set(said.sequences or ()) - set(there)
    if not there or unknown or (said.frames or 6) < 6:
        parser.error(f"{davis()} has {', '.join(there) or 'no sequences; see STREAMSTYLE_DATA'}; at least 6 frames")
    options = AnalysisOptions(edge_side=said.edge_side)
    print(machine())
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        masks = said.masks or Path(temporary, "masks")
        masks.mkdir(parents=True)
        for name in said.sequences or there:
            rows.append(evaluate(name, said.frames, masks, options))
            print(
                "  ".join(
                    f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in rows[-1].items()
                ),
                flush=True,
            )
    figures = [
        figure(measure, float(np.mean([row[measure] for row in rows])), unit_of(measure))
        for measure in (*MEASURES, *BASELINES)
    ]
    for row in figures:
        print(f"{row['name']:<45} {row['value']:>8.4f} {row['unit']}")
    if said.sequences is None and said.frames is None:
        rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        print(
            save(
                "objects", {"protocol": __doc__, "edge_side": said.edge_side, "figures": figures, "sequences": rounded}
            )
        )


def unit_of(measure: str) -> str:
    return "per 100 frames" if measure.startswith(("region", "identity")) else "of 1"


if __name__ == "__main__":
    main()
