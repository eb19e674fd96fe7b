"""What cuts and absence cost: objects named once, in films that cut away and back, and in which they leave the picture;
and what is found where motion tells nothing.

make eval     or     python benchmarks/eval_shots.py [--sequences dog libby] [--go-on FILE]

Films are made of DAVIS sequences, with their masks: no sequence has a cut, and nobody in them comes back into view.

*Cut*: 12 frames, 10 of the next sequence, the 10 that follow after as many have passed, and 8 of another view, mirrored
and enlarged by a half. The object of the first frame is named by the regions under its mask and never again: J where
the film is back, J in the other view, and the share of frames of the other sequence in which something has its name
(wrongly). With nothing named, J of what is found in the other sequence.

*Away*: a window of the film's height and three eighths of its width stays with the object, turns away until nothing of
it is seen, and comes back; sequences in which it cannot hide so are left out. J of the named object after it is back,
and, with nothing named, the share of films in which what is found there has the number it had before.

*Plain*: the object alone, as the mask cuts it out, before an even sky with a film's noise; the camera stays with it, so
that it is at rest but for its limbs. With nothing named, J of what is found.

*Sway* and *walk*: a camera at rest before the first picture of the next sequence, with a film's noise. The object as it
is in the middle of its sequence, cut out, sways about its feet, by parts of a pixel a frame; or it walks, stays for
half of the film but for its limbs, and walks on. With nothing named, J of what is found, where every frame is looked at
and as on a CPU.

Masks are compared at the films' size, every frame is looked at; pixels are DAVIS's own but for the enlarged view.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from common import figure, machine, read_picture, save
from eval_objects import davis, jaccard, track_objects, truths
from kept_regions import kept_regions, patched
from kept_rows import KeptRows, code_print
from object_measures import dominant_label

from streamstyle import shots
from streamstyle.config import AnalysisOptions
from streamstyle.objects import appearance, appearance_tracks, host_weighing, weighing
from streamstyle.objects.recall import Recall
from streamstyle.objects.reentry import Reentry
from streamstyle.objects.slow_motion import SlowMotion
from streamstyle.shots import ShotDetector
from streamstyle.tracks.outlines import enlarged_along_colors

FIRST, OTHER, BACK, VIEW = 12, 10, 10, 8
"""Frames of the four shots of a film that cuts."""
ENLARGED = 1.5
WINDOW = 3 / 8
"""Width of the window that turns away, of the film's."""
STAY, TURN, ABSENT = 0.15, 0.3, 0.1
"""Of a film's length: with the object, on the way, and away from it."""
SKY, FALL, NOISE = (168, 186, 204), 16, 1.5
"""Of a plain ground: its colour, levels it gets darker from top to bottom, and the noise's standard deviation."""
SWAY, SWAY_DEGREES, SWAY_FRAMES, SWAY_PERIOD = 0.015, 1.5, 60, 90
"""How far what sways goes, of the film's width, and turns about its feet, each way; frames, and those of a whole sway:
.4 px a frame at most, of 240 lines."""
WALK, WALK_SHARE = 0.12, 0.25
"""Of the film's width and length: how far what walks goes before it stays and after, and how long it takes."""
FALSE_SHARE = 0.003
"""Share of a frame from which on a name in it is seen: SMALLEST_FOUND."""

Constants = dict[tuple[Any, str], Any]
NOT_REMEMBERED: Constants = {(shots, "_same"): lambda *_: False}
NOT_KNOWN_AGAIN: Constants = {(Recall, "known"): lambda *_: {}}

CUT_CHOICES: dict[str, Constants] = {
    "all of it": {},
    "no cuts are told: the film is one shot": {(ShotDetector, "step"): lambda *_: 0},
    "no shot is remembered": NOT_REMEMBERED,
    "nobody is known again in a new shot": NOT_KNOWN_AGAIN,
    "neither": NOT_REMEMBERED | NOT_KNOWN_AGAIN,
}
AWAY_CHOICES: dict[str, Constants] = {
    "all of it": {},
    "no re-entry: who comes back is another": {(Reentry, "step"): lambda *_: None},
    "no search for what is lost": {(weighing, "LOST_SHARE"): 0.0},
    "no motion where what is lost is looked for": {(host_weighing, "LOST_MOTION_WEIGHT"): 0.0},
    "no memory of the first frame": {(appearance, "ANCHOR"): 0.0},
}
REST_CHOICES: dict[str, Constants] = {
    "all of it": {},
    "slow motion is not asked for": {(SlowMotion, "step"): lambda _, motion, *__, **___: motion},
}
PLAIN_CHOICES: dict[str, Constants] = {
    "all of it": {},
    "what stands out of a plain ground is nothing": {(appearance_tracks, "stands_out"): lambda _: None},
}


@dataclass(frozen=True)
class MadeFilm:
    """Pictures in a folder, the mask of the first, and where the object truly is in each, [H, W] bool."""

    pictures: Path
    first_mask: Path
    truth: list[np.ndarray]


def sequence(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures [H, W, 3] uint8 and masks [H, W] bool of a DAVIS sequence."""
    folder = davis() / "JPEGImages" / "480p" / name
    pictures = [read_picture(path) for path in sorted(folder.iterdir())]
    return pictures, truths(davis() / "Annotations" / "480p" / name, len(pictures))


def write(at: Path, pictures: Sequence[np.ndarray], truth: list[np.ndarray]) -> MadeFilm:
    """A film of pictures, in a new folder."""
    (at / "pictures").mkdir(parents=True)
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(at / "pictures" / f"{index:05d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(at / "first.png"), truth[0].astype(np.uint8) * 255)
    return MadeFilm(at / "pictures", at / "first.png", truth)


def other_view(pixels: np.ndarray, *, smooth: bool) -> np.ndarray:
    """The middle of a picture, mirrored and enlarged to its size."""
    height, width = pixels.shape[:2]
    h, w = round(height / ENLARGED), round(width / ENLARGED)
    top, left = (height - h) // 2, (width - w) // 2
    middle = np.ascontiguousarray(pixels[top : top + h, left : left + w][:, ::-1])
    return cv2.resize(middle, (width, height), interpolation=cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST)


def cut_film(name: str, other: str, at: Path) -> MadeFilm:
    """A sequence, another, the first again, and another view of it; in the other the object is nowhere."""
    (pictures, truth), (between, _) = sequence(name), sequence(other)
    back = FIRST + OTHER
    view = range(back + BACK, back + BACK + VIEW)
    shown = [*pictures[:FIRST], *between[:OTHER], *pictures[back : back + BACK]]
    shown += [other_view(pictures[i], smooth=True) for i in view]
    true = [*truth[:FIRST], *[np.zeros_like(truth[0])] * OTHER, *truth[back : back + BACK]]
    true += [other_view(truth[i].astype(np.uint8), smooth=False) > 0 for i in view]
    return write(at, shown, true)


def away_film(name: str, at: Path) -> MadeFilm | None:
    """A window on a sequence that turns away from the object and back; None where it cannot hide."""
    pictures, truth = sequence(name)
    count, width = len(pictures), pictures[0].shape[1]
    window = round(width * WINDOW) // 2 * 2
    middles = [float(np.flatnonzero(mask.any(0)).mean()) if mask.any() else width / 2 for mask in truth]
    at_object = np.clip(np.array(middles) - window / 2, 0, width - window)
    with_it = max(2, round(count * STAY))
    turn, absent = round(count * TURN), round(count * ABSENT)
    gone = slice(with_it + turn, with_it + turn + absent)
    side = 0.0 if np.mean(middles[gone]) > width / 2 else float(width - window)
    share = np.interp(np.arange(count), [0, with_it, gone.start, gone.stop, gone.stop + turn], [0, 0, 1, 1, 0])
    lefts = np.rint(at_object + (side - at_object) * (0.5 - 0.5 * np.cos(np.pi * share))).astype(int)
    seen = [mask[:, left : left + window] for mask, left in zip(truth, lefts, strict=True)]
    if any(mask.any() for mask in seen[gone]):
        return None
    return write(at, [p[:, left : left + window] for p, left in zip(pictures, lefts, strict=True)], seen)


def plain_film(name: str, at: Path) -> MadeFilm:
    """The object of a sequence alone, before an even sky, in the middle of each picture."""
    pictures, truth = sequence(name)
    height, rng, shown, true = truth[0].shape[0], np.random.default_rng(0), [], []
    ground = np.array(SKY) + np.linspace(FALL / 2, -FALL / 2, height)[:, None, None]
    for picture, mask in zip(pictures, truth, strict=True):
        moved, where = in_the_middle(picture, mask)
        shown.append(before(ground, moved, cv2.GaussianBlur(where.astype(np.float32), (0, 0), 0.7), rng))
        true.append(where > 0)
    return write(at, shown, true)


def sway_film(name: str, other: str, at: Path) -> MadeFilm:
    """The object of a sequence's middle, that sways before the first picture of another."""
    (pictures, truth), (between, _) = sequence(name), sequence(other)
    middle = len(pictures) // 2
    picture, mask, ground = pictures[middle], truth[middle], between[0].astype(np.float64)
    (height, width), rng, shown, true = mask.shape, np.random.default_rng(0), [], []
    ys, xs = np.nonzero(mask)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    for frame in range(SWAY_FRAMES):
        side = np.sin(2 * np.pi * frame / SWAY_PERIOD)
        way = cv2.getRotationMatrix2D((float(xs.mean()), float(ys.max())), SWAY_DEGREES * side, 1)
        way[:, 2] += (width / 2 - xs.mean() + SWAY * width * side, height / 2 - ys.mean())
        moved, where = (cv2.warpAffine(values, way, (width, height)) for values in (picture, soft))
        shown.append(before(ground, moved, where, rng))
        true.append(where > 0.5)
    return write(at, shown, true)


def walk_film(name: str, other: str, at: Path) -> MadeFilm:
    """The object of a sequence, that walks, stays and walks on before the first picture of another."""
    (pictures, truth), (between, _) = sequence(name), sequence(other)
    width, rng, shown, true = truth[0].shape[1], np.random.default_rng(0), [], []
    count, ground = len(pictures), between[0].astype(np.float64)
    stops = [0, count * WALK_SHARE, count * (1 - WALK_SHARE), count - 1]
    aside = np.interp(np.arange(count), stops, [-WALK, 0, 0, WALK]) * width
    for picture, mask, px in zip(pictures, truth, aside, strict=True):
        moved, where = in_the_middle(picture, mask, px)
        shown.append(before(ground, moved, cv2.GaussianBlur(where.astype(np.float32), (0, 0), 0.7), rng))
        true.append(where > 0)
    return write(at, shown, true)


def in_the_middle(picture: np.ndarray, mask: np.ndarray, aside_px: float = 0.0) -> Sequence[np.ndarray]:
    """A picture and a mask [H, W] uint8, moved by whole pixels so that the mask is in the middle, or beside it."""
    height, width = mask.shape
    y, x = (float(places.mean()) for places in np.nonzero(mask)) if mask.any() else (height / 2, width / 2)
    way = np.array([[1, 0, round(width / 2 - x + aside_px)], [0, 1, round(height / 2 - y)]], np.float32)
    both = (picture, mask.astype(np.uint8))
    return [cv2.warpAffine(values, way, (width, height), flags=cv2.INTER_NEAREST) for values in both]


def before(ground: np.ndarray, picture: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture by its share [H, W] of each pixel before a ground [H, W, 3] with a film's noise, [H, W, 3] uint8."""
    noisy = ground + rng.normal(0, NOISE, (*share.shape, 1))
    return (noisy + share[..., None] * (picture - noisy)).round().clip(0, 255).astype(np.uint8)


def shots_after_first() -> list[slice]:
    """Which frames of a film that cuts are of the other sequence, of the first again, and of its other view."""
    ends = list(itertools.accumulate((FIRST, OTHER, BACK, VIEW)))
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def labels_of(film: MadeFilm, *, named: bool, every: int | Literal["auto"] = 1) -> list[np.ndarray]:
    """Labels of each frame, [H, W] int32, the named object's 1; or of what is found."""
    options = AnalysisOptions(analyse_every=every)
    labelled = track_objects(film.pictures, film.first_mask if named else None, options)
    return [enlarged_along_colors(frame.labels, frame.frame) for frame in labelled]


def mean_j(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """J mean of all frames."""
    return jaccard([masks[0], *masks, masks[0]], [truth[0], *truth, truth[0]])


def cut_scores(name: str, other: str, at: Path) -> dict[str, dict[str, float]]:
    """The measures of every choice in a film that cuts."""
    film, (_, between) = cut_film(name, other, at), sequence(other)
    away, back, view = shots_after_first()
    found = {}
    for choice, constants in CUT_CHOICES.items():
        with patched(constants):
            named = [labels == 1 for labels in labels_of(film, named=True)]
            unasked = [labels > 0 for labels in labels_of(film, named=False)]
        found[choice] = {
            "J back in the shot": mean_j(named[back], film.truth[back]),
            "J in another view": mean_j(named[view], film.truth[view]),
            "named wrongly in the other shot": float(np.mean([m.mean() >= FALSE_SHARE for m in named[away]])),
            "zero clicks J in the other shot": mean_j(unasked[away], between[:OTHER]),
        }
    return found


def away_scores(name: str, at: Path) -> dict[str, dict[str, float]] | None:
    """The measures of every choice in a film that turns away; None where the object cannot hide."""
    film = away_film(name, at)
    if film is None:
        return None
    areas = np.array([mask.sum() for mask in film.truth])
    hidden = np.flatnonzero(areas == 0)
    seen, back = (
        [start + i for i in np.flatnonzero(part >= 0.5 * part.max())]
        for start, part in ((0, areas[: hidden[0]]), (hidden[-1] + 1, areas[hidden[-1] + 1 :]))
    )
    found = {}
    for choice, constants in AWAY_CHOICES.items():
        with patched(constants):
            named = [labels == 1 for labels in labels_of(film, named=True)]
            unasked = labels_of(film, named=False)
        was, now = (usual_label([unasked[i] for i in part], [film.truth[i] for i in part]) for part in (seen, back))
        found[choice] = {
            "J after it is back": mean_j([named[i] for i in back], [film.truth[i] for i in back]),
            "zero clicks, keeps its number": float(was > 0 and was == now),
        }
    return found


def plain_scores(name: str, at: Path) -> dict[str, dict[str, float]]:
    """The measures of every choice in a film before a plain ground."""
    film, found = plain_film(name, at), {}
    for choice, constants in PLAIN_CHOICES.items():
        with patched(constants):
            unasked = [labels > 0 for labels in labels_of(film, named=False)]
        found[choice] = {"zero clicks J": mean_j(unasked, film.truth)}
    return found


def rest_scores(film: MadeFilm) -> dict[str, dict[str, float]]:
    """The measures of every choice in a film before a camera at rest."""
    found = {}
    for choice, constants in REST_CHOICES.items():
        with patched(constants):
            every = [labels > 0 for labels in labels_of(film, named=False)]
            some = [labels > 0 for labels in labels_of(film, named=False, every="auto")]
        found[choice] = {
            "zero clicks J, every frame": mean_j(every, film.truth),
            "zero clicks J, as on a CPU": mean_j(some, film.truth),
        }
    return found


def usual_label(labels: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> int:
    """The number that most frames have on the true object, of those that have one; 0 where none has."""
    shown = [dominant_label(*pair) for pair in zip(labels, truth, strict=True)]
    return int(np.bincount([number for number in shown if number > 0], minlength=1).argmax())


def with_next(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each sequence and the one after it, the last with the first."""
    return zip(names, [*names[1:], names[0]], strict=True)


def measured(name: str, other: str) -> dict[str, Any]:
    """All films of a sequence."""
    with tempfile.TemporaryDirectory() as temporary, kept_regions():
        row = {
            "cut": cut_scores(name, other, Path(temporary, "cut")),
            "away": away_scores(name, Path(temporary, "away")),
            "plain": plain_scores(name, Path(temporary, "plain")),
            "sway": rest_scores(sway_film(name, other, Path(temporary, "sway"))),
            "walk": rest_scores(walk_film(name, other, Path(temporary, "walk"))),
        }
    for kind, found in row.items():
        for choice, values in (found or {}).items():
            print(f"{name:<15} {kind:<5} {choice:<45}", *(f"{k} {v:.3f} " for k, v in values.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = sorted(path.name for path in (davis() / "JPEGImages" / "480p").glob("*"))
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these; the result is not saved")
    parser.add_argument("--go-on", type=Path, metavar="FILE", help="keep rows here, and go on")
    said = parser.parse_args()
    if not there or set(said.sequences or ()) - set(there):
        parser.error(f"{davis()} has {', '.join(there) or 'no sequences; see STREAMSTYLE_DATA'}")
    print(machine())
    kept = KeptRows(said.go_on, code_print())
    pairs = [pair for pair in with_next(there) if pair[0] in (said.sequences or there)]
    rows = {name: kept.row(name, measured, name, other) for name, other in pairs}
    figures = []
    for kind in ("cut", "away", "plain", "sway", "walk"):
        films = [row[kind] for row in rows.values() if row[kind] is not None]
        for choice in films[0] if films else ():
            for measure in films[0][choice]:
                value = float(np.mean([film[choice][measure] for film in films]))
                figures.append(figure(f"{kind}, {len(films)} films; {choice}: {measure}", value, "of 1"))
                print(f"{figures[-1]['name']:<100} {value:.4f}")
    if said.sequences is None:
        print(save("object_shots", {"protocol": __doc__, "figures": figures}))


if __name__ == "__main__":
    main()
