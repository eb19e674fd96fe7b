"""How well objects are followed, on DAVIS sequences: J and F from the first frame's mask, and without a word.

make eval     or     python benchmarks/eval_objects.py [--sequences dog libby] [--frames 40] [--masks FOLDER]
python benchmarks/eval_objects.py --choices          what each part of the tracker is worth

Protocol, the same for every sequence and without tuning: the program gets the frames in order, at 480 lines. In the
first mode the object is, on frame 0, the regions that lie under the true mask for the most part, and nothing more is
said; in the second (zero clicks) nothing is said at all, and the first 6 frames are looked at ahead. What it gives is
written as DAVIS palette PNGs, read back, and compared by PyPI's vos-benchmark; first and last frame do not count, as in
DAVIS. With zero clicks all that is found counts as one object, as in DAVIS's unsupervised task. Region flips count how
often the label with most of the true object's pixels changes, identity switches how often its best match does, beside
the same of each frame's own numbering.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import figure, machine, save
from object_measures import changes, decay, dominant_label, matched_label, per_100_frames, recall
from torch import Tensor

from streamstyle.config import AnalysisOptions
from streamstyle.frames import VideoInfo
from streamstyle.gpu.transfer import choose_device
from streamstyle.media.decode import frame_at
from streamstyle.media.masks import enlarge_labels, read_mask
from streamstyle.media.probe import probe
from streamstyle.media.stills import read_still
from streamstyle.objects import appearance, appearance_tracks, evidence
from streamstyle.objects.appearance import AppearanceModel
from streamstyle.objects.evidence import region_means
from streamstyle.preview import segment_frame
from streamstyle.tracks.export import LabelledFrame, export
from streamstyle.tracks.film_objects import NOBODY, FilmObjects

ROOT = Path(__file__).resolve().parent.parent
MEASURES = ("J mean", "J recall", "J decay", "F mean", "zero clicks J mean", "region flips", "identity switches")
GOALS = {"J mean": 0.75, "zero clicks J mean": 0.6}
BASELINES = ("region flips, each frame's numbering", "identity switches, each frame's numbering")


def track_objects(folder: Path, first_mask: Path | None, options: AnalysisOptions) -> Iterator[LabelledFrame]:
    """What is evaluated: the labels of every frame of a folder, from the first one's regions, or from nothing."""
    info = probe(folder)
    mask = None
    if first_mask is not None:
        drawn = read_mask(first_mask, (info.height, info.width))
        mask = replace(drawn, labels=under(drawn.labels > 0, info, options))
    return FilmObjects(info, NOBODY, mask, options, choose_device("auto")).labelled()


def under(mask: np.ndarray, info: VideoInfo, options: AnalysisOptions) -> np.ndarray:
    """[h, w] uint8, 1 in those of the first frame's finest regions that a mask [H, W] bool covers at least half of."""
    _, found = segment_frame(info, frame_at(info, 0), options, "auto")
    ids = found.finest.numpy()
    covered = cv2.resize(mask.astype(np.float32), ids.shape[::-1], interpolation=cv2.INTER_AREA)
    return (region_means(covered, ids, np.bincount(ids.ravel())) >= 0.5).astype(np.uint8)


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


def jaccard(masks: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """J mean of masks [H, W] bool, first and last frame aside."""
    pairs = list(zip(masks, truth, strict=True))[1:-1]
    return float(np.mean([(seen & true).sum() / max(1, (seen | true).sum()) for seen, true in pairs]))


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
        "zero clicks J mean": jaccard([labels > 0 for labels in found], truth),
        **identity(found, truth),
        **identity(ordered, truth, ", each frame's numbering"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these; the result is not saved")
    parser.add_argument("--frames", type=int, help="only so many of each, at least 6; the result is not saved")
    parser.add_argument("--masks", type=Path, help="keep the palette PNGs in this new folder")
    parser.add_argument("--choices", action="store_true", help="with parts of the tracker left out, J mean alone")
    parser.add_argument("--every", default=1, type=int, help="--analyse-every, as of streamstyle run")
    parser.add_argument("--analysis-size", default=240, type=int, help="as of streamstyle run; saved only with 240")
    said = parser.parse_args()
    there = sorted(path.name for path in (davis() / "JPEGImages" / "480p").glob("*"))
    unknown = set(said.sequences or ()) - set(there)
    if not there or unknown or (said.frames or 6) < 6:
        parser.error(f"{davis()} has {', '.join(there) or 'no sequences; see STREAMSTYLE_DATA'}; at least 6 frames")
    options = AnalysisOptions(analyse_every=said.every, analysis_size=said.analysis_size)
    print(machine())
    if said.choices:
        compare_choices(said.sequences or there, said.frames, options, save_it=not said.sequences)
        return
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
        figure(measure, float(np.mean([row[measure] for row in rows])), unit_of(measure), goal=GOALS.get(measure))
        for measure in (*MEASURES, *BASELINES)
    ]
    for row in figures:
        print(f"{row['name']:<45} {row['value']:>8.4f} {row['unit']}")
    if said.sequences is None and said.frames is None and said.analysis_size == 240:
        rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        print(
            save(
                "objects",
                {"protocol": __doc__, "analyse_every": said.every, "figures": figures, "sequences": rounded},
            )
        )


def coarse_map(
    model: AppearanceModel, x: Tensor, grid: tuple[int, int], features: Sequence[Tensor], rgb: Tensor
) -> Tensor:
    """AppearanceModel.score_map as it was, no finer than the descriptions: [K + 1, h', w']."""
    known, weights = model._solved()
    found = x.new_zeros(model.classes, len(x))
    found[known] = torch.softmax(appearance.SHARPNESS * (x @ weights), 1).T
    return found.unflatten(1, grid)


CHOICES: dict[str, tuple[dict[str, Any], dict[tuple[Any, str], Any]]] = {
    "all of it": ({}, {}),
    "every 4th frame looked at": ({"analyse_every": 4}, {}),
    "edges of all sides, fused": ({"edge_side": "fuse"}, {}),
    "360 lines": ({"analysis_size": 360}, {}),
    "no motion": ({}, {(evidence, "MOTION_WEIGHT"): 0.0}),
    "no look": ({}, {(appearance_tracks, "LOOK_WEIGHT"): 0.0}),
    "the look at 4 px, not at 2": ({}, {(AppearanceModel, "score_map"): coarse_map}),
    "the background beside the object counts no more": ({}, {(appearance, "NEAR_WEIGHT"): 0.0}),
    "no regions": ({}, {(appearance_tracks, "SNAP"): 0.0}),
    "shares not drawn to the colours": ({}, {(appearance_tracks, "drawn_to_colors"): lambda share, *_: share}),
    "no motion where what is lost is looked for": ({}, {(appearance_tracks, "LOST_MOTION_WEIGHT"): 0.0}),
    "no memory of the first frame": ({}, {(appearance, "ANCHOR"): 0.0}),
    "no search for what is lost": ({}, {(appearance_tracks, "LOST_SHARE"): 0.0}),
    "overlap, regions": ({"tracker": "overlap"}, {}),
    "overlap, components (DeepGIF)": ({"tracker": "overlap", "segmenter": "components"}, {}),
}
"""What may be left out or done otherwise: options, and constants of modules and classes."""


def compare_choices(sequences: list[str], count: int | None, options: AnalysisOptions, *, save_it: bool) -> None:
    """J mean of every choice, in each sequence; at the analysis size, which is quicker and some .02 higher."""
    figures = []
    for name, (said, constants) in CHOICES.items():
        with patched(constants):
            each = [quick_j(sequence, count, replace(options, **said)) for sequence in sequences]
        figures.append(figure(name, float(np.mean(each)), "of 1"))
        print(f"{name:<32} {np.mean(each):.4f}   " + " ".join(f"{j:.3f}" for j in each), flush=True)
    if save_it:
        print(save("object_choices", {"protocol": compare_choices.__doc__, "frames": count, "figures": figures}))


@contextlib.contextmanager
def patched(constants: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Other values of constants, for a while."""
    before = {(module, name): getattr(module, name) for module, name in constants}
    for (module, name), value in constants.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def quick_j(name: str, count: int | None, options: AnalysisOptions) -> float:
    """J mean of one sequence at the analysis size, from the first frame's regions."""
    annotations = sorted((davis() / "Annotations" / "480p" / name).iterdir())[:count]
    frames = itertools.islice(track_objects(davis() / "JPEGImages" / "480p" / name, annotations[0], options), count)
    masks, truth = [], []
    for labelled, path in zip(frames, annotations, strict=True):
        true, size = (read_still(path).pixels >= 128).astype(np.float32), labelled.labels.shape[::-1]
        masks.append(labelled.labels == 1)
        truth.append(cv2.resize(true, size, interpolation=cv2.INTER_AREA) >= 0.5)
    return jaccard(masks, truth)


def unit_of(measure: str) -> str:
    return "per 100 frames" if measure.startswith(("region", "identity")) else "of 1"


if __name__ == "__main__":
    main()
