"""How well objects are followed, on DAVIS sequences: J and F from the first frame's mask, and without a word.

make eval     or     python benchmarks/eval_objects.py [--sequences dog libby] [--frames 40] [--masks FOLDER]
python benchmarks/eval_objects.py --choices          what each part of the tracker is worth

Protocol, the same for every sequence, with no option said for one of them: the program gets the frames in order, at
480 lines, and looks at each of them; then again as often as it does on a CPU unless told otherwise: at every 8th, and
at others where motion leaves doubt; how many those are of all is counted. In the first mode the object is, on frame 0,
the regions that lie under the true mask for the most part, and nothing more is said; in the second (zero clicks)
nothing is said at all, and the first 6 frames are looked at ahead. What it gives is written as DAVIS palette PNGs, read
back, and compared by PyPI's vos-benchmark; first and last frame do not count, as in DAVIS.
With zero clicks all that is found counts as one object, as in DAVIS's unsupervised task. Region flips count how often
the label with most of the true object's pixels changes, identity switches how often its best match does, beside the
same of each frame's own numbering.

The tracker's constants were chosen with these sequences in view, so the figures are of what it was tuned on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import figure, machine, save
from kept_regions import kept_regions, patched
from kept_rows import KeptRows, code_print
from object_choices import CHOICES
from object_measures import changes, decay, dominant_label, matched_label, per_100_frames, recall

from streamstyle.config import AnalysisOptions
from streamstyle.frames import VideoInfo
from streamstyle.gpu.transfer import choose_device
from streamstyle.media.decode import frame_at
from streamstyle.media.masks import enlarge_labels, read_mask
from streamstyle.media.probe import probe
from streamstyle.media.stills import read_still
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.evidence import region_means
from streamstyle.preview import segment_frame
from streamstyle.tracks.export import LabelledFrame, export
from streamstyle.tracks.film_objects import NOBODY, FilmObjects
from streamstyle.tracks.outlines import enlarged_along_colors

ROOT = Path(__file__).resolve().parent.parent
LOOKS = "looked at, of all frames (named)"
MEASURES = ("J mean", "J recall", "J decay", "F mean", "zero clicks J mean", "region flips", "identity switches", LOOKS)
GOALS = {"J mean": 0.75, "zero clicks J mean": 0.6}
EVERY = ("1", "auto")
"""Of how many frames one is looked at: the default on CUDA, and what is that on a CPU."""
BY_DOUBT = "as often as on a CPU"
"""What figures of the latter are called."""
BASELINES = ("region flips, each frame's numbering", "identity switches, each frame's numbering")


def track_objects(folder: Path, first_mask: Path | None, options: AnalysisOptions) -> Iterator[LabelledFrame]:
    """What is evaluated: the labels of every frame of a folder, from the first one's regions, or from nothing."""
    info = probe(folder)
    mask = None
    if first_mask is not None:
        drawn = read_mask(first_mask, (info.height, info.width))
        mask = replace(drawn, labels=under(drawn.labels > 0, info, options))
    device = choose_device("cpu" if options.analyse_every == "auto" else "auto")  # the former is what is evaluated so
    return FilmObjects(info, NOBODY, mask, options, device).labelled()


@contextlib.contextmanager
def counted_looks() -> Iterator[list[bool]]:
    """For a while, of each frame that is followed whether it is looked at; those before a shot are not counted."""
    looks, wants = list[bool](), AppearanceTracks.wants

    def counted(self: AppearanceTracks, index: int, shot: int, time_s: float) -> bool:
        looks.append(wants(self, index, shot, time_s))
        return looks[-1]

    with patched({(AppearanceTracks, "wants"): counted}):
        yield looks


def under(mask: np.ndarray, info: VideoInfo, options: AnalysisOptions) -> np.ndarray:
    """[h, w] uint8, 1 in those of the first frame's finest regions that a mask [H, W] bool covers at least half of."""
    _, found = segment_frame(info, frame_at(info, 0), options, "auto")
    ids = found.finest.numpy()
    covered = cv2.resize(mask.astype(np.float32), ids.shape[::-1], interpolation=cv2.INTER_AREA)
    return (region_means(covered, ids, np.bincount(ids.ravel()))[ids] >= 0.5).astype(np.uint8)


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
    with counted_looks() as looks:
        frames = track_objects(pictures, sorted(annotations.iterdir())[0], options)
        export(frames, masks / name / "%05d.png", info, {1: name})
    followed = [read_still(path).pixels for path in sorted((masks / name).iterdir())]
    j, f = scores(followed, truth)
    size = truth[0].shape
    found, ordered = [], []
    for labelled in track_objects(pictures, None, options):
        found.append(enlarged_along_colors(labelled.labels, labelled.frame))
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
        LOOKS: sum(looks) / max(1, len(looks)),
        **identity(ordered, truth, ", each frame's numbering"),
    }


def evaluate_all(
    names: Sequence[str], count: int | None, masks: Path, each: Sequence[AnalysisOptions]
) -> list[list[dict[str, Any]]]:
    """Rows of the sequences, for each options; a sequence's regions are found once."""
    folders = [masks if i == 0 else masks / f"every-{options.analyse_every}" for i, options in enumerate(each)]
    for folder in folders:
        folder.mkdir(parents=True)
    rows: list[list[dict[str, Any]]] = [[] for _ in each]
    for name in names:
        with kept_regions():
            for options, folder, of_all in zip(each, folders, rows, strict=True):
                of_all.append(evaluate(name, count, folder, options))
                said = (f"{k} {v:.3f}" if isinstance(v, float) else str(v) for k, v in of_all[-1].items())
                print(f"every {options.analyse_every}: ", "  ".join(said), flush=True)
    return rows


def means(rows: list[dict[str, Any]], measures: Iterable[str], prefix: str = "") -> list[dict[str, Any]]:
    """Figures: means over sequences."""
    return [
        figure(f"{prefix}{name}", float(np.mean([row[name] for row in rows])), unit_of(name), goal=GOALS.get(name))
        for name in measures
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these; the result is not saved")
    parser.add_argument("--frames", type=int, help="only so many of each, at least 6; the result is not saved")
    parser.add_argument("--masks", type=Path, help="keep the palette PNGs in this new folder")
    parser.add_argument("--choices", nargs="*", metavar="CHOICE", help="with parts left out; saved only with all")
    parser.add_argument("--go-on", type=Path, metavar="FILE", help="--choices keeps its rows here, and goes on")
    parser.add_argument("--every", nargs="+", default=EVERY, help="--analyse-every; saved only as it is")
    parser.add_argument("--analysis-size", default=240, type=int, help="as of streamstyle run; saved only with 240")
    said = parser.parse_args()
    there = sorted(path.name for path in (davis() / "JPEGImages" / "480p").glob("*"))
    unknown = set(said.sequences or ()) - set(there)
    if not there or unknown or (said.frames or 6) < 6:
        parser.error(f"{davis()} has {', '.join(there) or 'no sequences; see STREAMSTYLE_DATA'}; at least 6 frames")
    frames = [every if every == "auto" else int(every) for every in said.every]
    each = [AnalysisOptions(analyse_every=every, analysis_size=said.analysis_size) for every in frames]
    print(machine())
    if said.choices is not None:
        names = said.choices or list(CHOICES)
        if set(names) - set(CHOICES):
            parser.error(f"choices are {', '.join(map(repr, CHOICES))}")
        compare_choices(names, said.sequences or there, said.frames, each[0], said.go_on, save_it=not said.sequences)
        return
    with tempfile.TemporaryDirectory() as temporary:
        rows, *others = evaluate_all(said.sequences or there, said.frames, said.masks or Path(temporary, "masks"), each)
    figures = means(rows, (*MEASURES, *BASELINES))
    for every, more in zip(said.every[1:], others, strict=True):
        figures += means(more, MEASURES, f"{BY_DOUBT if every == 'auto' else f'every {every}th frame looked at'}: ")
    for row in figures:
        print(f"{row['name']:<65} {row['value']:>8.4f} {row['unit']}")
    whole = said.sequences is None and said.frames is None
    if whole and said.analysis_size == 240 and tuple(said.every) == EVERY:
        tables = {"sequences": rows, f"sequences, {BY_DOUBT}": others[0]}
        print(save("objects", {"protocol": __doc__, "figures": figures} | {k: rounded(v) for k, v in tables.items()}))


def rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they are saved."""
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def compare_choices(
    names: Sequence[str],
    sequences: Sequence[str],
    count: int | None,
    options: AnalysisOptions,
    go_on: Path | None,
    *,
    save_it: bool,
) -> None:
    """J mean of every choice from the first frame's regions, and with zero clicks J mean and identity switches; at the
    analysis size, which is quicker and within .006 of the film's. With zero clicks all that is found counts as the
    object, so every region does where the tracker is overlap."""
    kept = KeptRows(go_on, f"{code_print()} {list(names)} {count} {options}")
    rows = [kept.row(sequence, scores_of_choices, names, sequence, count, options) for sequence in sequences]
    figures = []
    for name in names:
        for measure in rows[0][name]:
            value = float(np.mean([row[name][measure] for row in rows]))
            figures.append(figure(f"{name}: {measure}", value, unit_of(measure)))
            print(f"{figures[-1]['name']:<75} {value:.4f}")
    if save_it and list(names) == list(CHOICES):
        print(save("object_choices", {"protocol": compare_choices.__doc__, "frames": count, "figures": figures}))


def scores_of_choices(
    names: Sequence[str], sequence: str, count: int | None, options: AnalysisOptions
) -> dict[str, dict[str, float]]:
    """The measures of every choice in one sequence."""
    found = {}
    with kept_regions():
        for name in names:
            said, constants = CHOICES[name]
            with patched(constants):
                found[name] = quick_scores(sequence, count, replace(options, **said))
            print(
                f"{sequence:<15} {name:<52}", *(f"{key} {value:.3f} " for key, value in found[name].items()), flush=True
            )
    return found


def quick_scores(name: str, count: int | None, options: AnalysisOptions) -> dict[str, float]:
    """One sequence at the analysis size: followed from the first frame's regions, and with zero clicks."""
    annotations = sorted((davis() / "Annotations" / "480p" / name).iterdir())[:count]
    pictures = davis() / "JPEGImages" / "480p" / name
    followed, found = (
        [labelled.labels for labelled in itertools.islice(track_objects(pictures, first, options), count)]
        for first in (annotations[0], None)
    )
    size = followed[0].shape[::-1]
    drawn = [(read_still(path).pixels >= 128).astype(np.float32) for path in annotations]
    truth = [cv2.resize(true, size, interpolation=cv2.INTER_AREA) >= 0.5 for true in drawn]
    return {
        "J mean": jaccard([labels == 1 for labels in followed], truth),
        "zero clicks J mean": jaccard([labels > 0 for labels in found], truth),
        "identity switches": identity(found, truth)["identity switches"],
    }


def unit_of(measure: str) -> str:
    return "per 100 frames" if measure.startswith(("region", "identity")) else "of 1"


if __name__ == "__main__":
    main()
