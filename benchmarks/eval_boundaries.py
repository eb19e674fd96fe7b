"""How well edges and the hierarchy's contours agree with people: BSDS500's boundary benchmark.

    python benchmarks/eval_boundaries.py --images 25

Each contour map is thresholded, thinned, and matched with each person's boundaries, one pixel to one pixel at most
0.0075 of the diagonal away. ODS is the best F over thresholds common to all pictures, OIS with the best of each
picture. Covering is the overlap of the people's segments with the regions of a cut: only regions have it.

Two warnings. The HED weights were most likely trained on the very pictures used here, BSDS train and val: the table
compares ways to use HED with each other and does not score HED. And pixels are matched nearest pairs first, which is
quick and matches 2 to 8 % less than can be, so a referee judges some pictures again. It is PyPI's edgeval, a port of
the original with the original's solver of the assignment problem, where Python finds it: a second for each matching,
of which a way has 75 a picture, so it judges every third threshold. To build it takes CUDA's compiler, but what is
needed here runs as it is unpacked:

    pip download --no-deps --no-binary :all: edgeval==0.1.1 && tar xf edgeval-0.1.1.tar.gz
    PYTHONPATH=edgeval-0.1.1 python benchmarks/eval_boundaries.py

Matching and scores are edgeval's own; thinning is not, for its own is of NumPy before 2.4. Without it the referee is
SciPy's maximum matching (Hopcroft-Karp), which matches all that can be: 2 to 90 s a picture, so HED's fused edges
alone.

Needs the pictures: data/bsds beside the repository's parent's shared/, or STREAMSTYLE_DATA.

Source: Martin, Fowlkes and Malik 2004 (benchmark); Arbelaez et al. 2011 (ODS, OIS, covering); Dollar and Zitnick 2015
(non-maximum suppression across the edge, with directions of the edge map itself).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from common import RESULTS, figure, machine, read_picture, save
from scipy.io import loadmat
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.morphology import thin

from streamstyle.config import EdgeSide
from streamstyle.nets.hed import HED, NARROW_CHANNELS
from streamstyle.objects.segmenter import MARGIN_PX, NARROW_MARGIN_PX
from streamstyle.stages.region_hierarchy import FULL, NEVER, RegionHierarchy, cut, region_hierarchy

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("STREAMSTYLE_DATA", ROOT.parent / "shared" / "data")) / "bsds"
SHARE_OF_DIAGONAL = 0.0075
SIDES = get_args(EdgeSide)
CANNY = "Canny, sigma 2"
SOURCES = ("2", "3", "fuse", "narrow")
"""Sides the hierarchy is built on."""
Matching = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, int]]
"""From predicted and drawn pixels, [H, W] bool, to those predicted that have a partner, and how many."""


@dataclass
class Tally:
    """Pixels of one picture, for each threshold: predicted, of them matched, drawn by people, of them matched."""

    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    coverings: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Referee:
    """Who judges again.

    Attributes:
        name: as columns have it.
        pictures: so many, the first.
        every: of how many thresholds one, the middle one.
        ways: that are judged; none: all.
        match: as matched, but as well as can be.
        score: of tallies at thresholds.
    """

    name: str
    pictures: int
    every: int
    ways: tuple[str, ...]
    match: Matching
    score: Callable[[list[Tally], np.ndarray], dict[str, float]]

    def part(self, of: Sequence[Any] | np.ndarray) -> Any:
        """What belongs to its thresholds, of as much for all."""
        return of[self.every // 2 :: self.every]


@dataclass(frozen=True)
class Picture:
    """A picture and what people drew in it: boundaries and segments, one each."""

    rgb: np.ndarray
    boundaries: list[np.ndarray]
    segments: list[np.ndarray]


def pictures(count: int) -> Iterator[Picture]:
    """The first pictures of BSDS500 val."""
    for path in sorted((DATA / "images" / "val").glob("*.jpg"))[:count]:
        people = loadmat(DATA / "groundTruth" / "val" / f"{path.stem}.mat")["groundTruth"][0]
        yield Picture(
            read_picture(path),
            [person["Boundaries"][0, 0].astype(bool) for person in people],
            [person["Segmentation"][0, 0].astype(np.int64) for person in people],
        )


def hed_edges(net: HED, rgb: np.ndarray) -> np.ndarray:
    """[H, W] float32, 0..1, of a picture that goes on beyond its border."""
    margin = NARROW_MARGIN_PX if net.channels == NARROW_CHANNELS else MARGIN_PX
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        edges = net(F.pad(picture, (margin,) * 4, mode="reflect"))[0, margin:-margin, margin:-margin]
    return edges.numpy()


def non_maximum_suppressed(edges: np.ndarray) -> np.ndarray:
    """Edge strength where it is not below its neighbours across the edge, else 0."""
    smooth = cv2.GaussianBlur(edges, (0, 0), 1)
    broad = cv2.GaussianBlur(edges, (0, 0), 2)
    gradient_y, gradient_x = np.gradient(broad)
    (yy, xy), xx = np.gradient(gradient_y), np.gradient(gradient_x, axis=1)
    # Across the edge: where the map is most curved, on its ridge downwards and at its foot upwards.
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    across_x, across_y = np.cos(angle), np.sin(angle)
    one = across_x**2 * xx + 2 * across_x * across_y * xy + across_y**2 * yy
    turned = np.abs(xx + yy - one) > np.abs(one)
    across_x, across_y = np.where(turned, -across_y, across_x), np.where(turned, across_x, across_y)
    y, x = np.indices(edges.shape, dtype=np.float32)
    stays = np.ones(edges.shape, bool)
    for step in (-1, 1):
        beside = cv2.remap(
            smooth,
            (x + step * across_x).astype(np.float32),
            (y + step * across_y).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        stays &= smooth * 1.01 >= beside
    return np.where(stays, smooth, 0)


def canny_edges(rgb: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """For each pixel the highest of the thresholds at which Canny, lower limit 0.4 of the upper, draws it."""
    gray = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 2)
    strength = np.zeros(gray.shape, np.float32)
    for threshold in thresholds:
        upper = 400 * float(threshold) ** 2  # more of them where most edges are
        strength[cv2.Canny(gray, 0.4 * upper, upper, L2gradient=True) > 0] = threshold
    return strength


def contour_map(hierarchy: RegionHierarchy) -> np.ndarray:
    """[H, W] float32, 0..1: the height at which a pixel's region joins that to the right or below, the higher one."""
    ids, into, at = (part[0].numpy() for part in (hierarchy.ids, hierarchy.into, hierarchy.at))
    regions = int(hierarchy.regions[0])
    join = np.zeros((regions + 1, regions + 1), np.int32)
    members = {region: [region] for region in range(1, regions + 1)}
    order = [region for region in np.argsort(at[: regions + 1], kind="stable") if at[region] != NEVER]
    top = np.arange(regions + 1)
    for region in order:
        low, high = top[into[region]], region
        join[np.ix_(members[low], members[high])] = at[region]
        join[np.ix_(members[high], members[low])] = at[region]
        top[members[high]] = low
        members[low] += members.pop(high)
    heights = np.zeros(ids.shape, np.int32)
    heights[:, :-1] = join[ids[:, :-1], ids[:, 1:]]
    heights[:-1] = np.maximum(heights[:-1], join[ids[:-1], ids[1:]])
    return heights.astype(np.float32) / FULL


def steps_within(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """All (y, x) from a pixel to one it may be matched with, nearest first."""
    reach = SHARE_OF_DIAGONAL * float(np.hypot(shape[0], shape[1]))
    around = range(-int(reach), int(reach) + 1)
    steps = [(y, x) for y in around for x in around if y * y + x * x <= reach * reach]
    return sorted(steps, key=lambda step: (step[0] ** 2 + step[1] ** 2, step))


def matched(predicted: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, int]:
    """[H, W] bool, which predicted pixels get a drawn partner of their own, and how many that are.

    Nearest pairs first: all pairs that lie the same step apart are taken at once, for no two of them share a pixel.
    """
    steps = steps_within(drawn.shape)
    edge = max(y for y, _ in steps)
    free, line = np.pad(drawn, edge).ravel(), drawn.shape[1] + 2 * edge
    alone = np.flatnonzero(np.pad(predicted, edge))
    for y, x in steps:
        beside = alone + (y * line + x)
        found = free[beside]
        free[beside[found]] = False
        alone = alone[~found]
    hits = predicted.copy()
    hits[alone // line - edge, alone % line - edge] = False
    return hits, int(hits.sum())


def matched_by_edgeval(predicted: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, int]:
    """As matched, but at the least distance in all, as the original benchmark does."""
    from edgeval_cu.csa import correspond_pixels

    if not predicted.any() or not drawn.any():
        return np.zeros_like(predicted), 0
    hits = correspond_pixels(predicted, drawn, SHARE_OF_DIAGONAL)[0] > 0
    return hits, int(hits.sum())


def matched_by_scipy(predicted: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, int]:
    """As matched, but as many as can be."""
    steps = steps_within(drawn.shape)
    edge = max(y for y, _ in steps)
    number, line = np.full(drawn.shape, -1), drawn.shape[1] + 2 * edge
    number[drawn] = np.arange(drawn.sum())
    numbers = np.pad(number, edge, constant_values=-1).ravel()
    places = np.flatnonzero(np.pad(predicted, edge))
    columns = np.stack([numbers[places + (y * line + x)] for y, x in steps], 1)  # nearest first, and so they are tried
    may = columns >= 0
    ends = np.concatenate([[0], may.sum(1).cumsum()])
    pairs = csr_matrix((np.ones(ends[-1], np.int8), columns[may], ends), (len(places), int(drawn.sum())))
    hits = np.zeros(predicted.shape, bool)
    hits[predicted] = maximum_bipartite_matching(pairs, perm_type="column") >= 0
    return hits, int(hits.sum())


def tallied(contours: np.ndarray, picture: Picture, thresholds: np.ndarray, match: Matching = matched) -> Tally:
    """Matches of a contour map at each threshold."""
    tally = Tally()
    for threshold in thresholds:
        predicted = thin(contours >= threshold)
        hits, recalled = np.zeros_like(predicted), 0
        for drawn in picture.boundaries:
            these, count = match(predicted, drawn)
            hits |= these
            recalled += count
        drawn_px = sum(int(drawn.sum()) for drawn in picture.boundaries)
        tally.rows.append((int(predicted.sum()), int(hits.sum()), drawn_px, recalled))
    return tally


def covering(regions: np.ndarray, picture: Picture) -> float:
    """Mean over people of the area-weighted best IoU of each segment with a region."""
    values = []
    for segments in picture.segments:
        table = np.zeros((int(segments.max()) + 1, int(regions.max()) + 1), np.int64)
        np.add.at(table, (segments.ravel(), regions.ravel()), 1)
        areas = table.sum(1)
        union = areas[:, None] + table.sum(0)[None] - table
        values.append(float((areas * (table / np.maximum(union, 1)).max(1)).sum() / areas.sum()))
    return float(np.mean(values))


def f_measure(rows: np.ndarray) -> np.ndarray:
    """F of [..., 4] counts."""
    predicted, hits, drawn, recalled = np.moveaxis(rows.astype(float), -1, 0)
    precision, recall = hits / np.maximum(predicted, 1), recalled / np.maximum(drawn, 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-9)


def average_precision(rows: np.ndarray) -> float:
    """Area below precision over recall, of [thresholds, 4] counts; in hundredths, as in the original."""
    predicted, hits, drawn, recalled = rows.T.astype(float)
    recall, first = np.unique(recalled / np.maximum(drawn, 1), return_index=True)
    precision = (hits / np.maximum(predicted, 1))[first]
    return float(np.interp(np.linspace(0, 1, 101), recall, precision, left=0, right=0).sum() / 100)


def scores(tallies: list[Tally]) -> dict[str, float]:
    """ODS, OIS and AP of boundaries, and ODS and OIS of coverings where there are any."""
    counts = np.array([tally.rows for tally in tallies])  # [pictures, thresholds, 4]
    best = f_measure(counts).argmax(1)
    found = {
        "ODS": float(f_measure(counts.sum(0)).max()),
        "OIS": float(f_measure(counts[np.arange(len(counts)), best].sum(0))),
        "AP": average_precision(counts.sum(0)),
    }
    if tallies[0].coverings:
        coverings = np.array([tally.coverings for tally in tallies])
        found |= {"covering, ODS": float(coverings.mean(0).max()), "covering, OIS": float(coverings.max(1).mean())}
    return found


def scores_by_edgeval(tallies: list[Tally], thresholds: np.ndarray) -> dict[str, float]:
    """As scores, by edgeval: ODS is the best F between two thresholds, too. It reads counts and writes scores."""
    from edgeval_cu.metrics import edges_eval_dir

    with tempfile.TemporaryDirectory() as temporary:
        drawn, seen = Path(temporary, "drawn"), Path(temporary, "seen")
        counts = Path(f"{seen}-eval-{len(thresholds)}")
        for folder in (drawn, seen, counts):
            folder.mkdir()
        for number, tally in enumerate(tallies):
            (drawn / f"{number}.mat").touch()  # a picture's name is asked for, and no more where it has been counted
            rows = np.array(tally.rows)[:, [3, 2, 1, 0]]
            np.savetxt(counts / f"{number}_ev1.txt", np.concatenate([thresholds[:, None], rows], 1), fmt="%10g")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            edges_eval_dir(str(seen), str(drawn), thrs=len(thresholds))
        found = np.loadtxt(counts / "eval_bdry.txt")
    return {"ODS": float(found[3]), "OIS": float(found[6]), "AP": float(found[7])}


def referee(judged: int | None = None) -> Referee:
    """edgeval where Python finds it, else SciPy; of so many pictures, where it is said."""
    if importlib.util.find_spec("edgeval_cu") is not None:
        return Referee("edgeval", judged or 2, 3, (), matched_by_edgeval, scores_by_edgeval)
    fused = ("HED fuse, thinned",)
    return Referee("SciPy", judged or 15, 1, fused, matched_by_scipy, lambda tallies, thresholds: scores(tallies))


def measure(
    picture: Picture, nets: dict[str, HED | None], thresholds: np.ndarray, judge: Referee | None
) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """Every method on one picture; and again by the judge those that it judges."""
    maps = {CANNY: canny_edges(picture.rgb, thresholds)} if CANNY in nets else {}
    coverings = {}
    for side, net in nets.items():
        if net is None:
            continue
        edges = hed_edges(net, picture.rgb)
        source = side if side == "narrow" else f"HED {side}"
        maps[f"{source}, thinned"] = non_maximum_suppressed(edges)
        if side not in SOURCES:
            continue
        hierarchy = region_hierarchy(torch.from_numpy((edges * 255 + 0.5).astype(np.uint8))[None])
        name = f"hierarchy on {source}"
        maps[name] = contour_map(hierarchy)
        coverings[name] = [covering(cut(hierarchy, float(level))[0][0].numpy(), picture) for level in thresholds]
    tallies = {name: tallied(contours, picture, thresholds) for name, contours in maps.items()}
    for name, found in coverings.items():
        tallies[name].coverings = found
    if judge is None:
        return tallies, {}
    some = judge.part(thresholds)
    return tallies, {
        name: tallied(maps[name], picture, some, judge.match) for name in judge.ways or maps if name in maps
    }


def main(say: Callable[[str], None] = print) -> int:
    """Measure, print the table, save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25, help="the first so many of val's 100 (default: 25)")
    parser.add_argument("--thresholds", type=int, default=15, help="between 0 and 1 (default: 15; the original: 99)")
    parser.add_argument("--judged", type=int, help="of them the referee judges so many, too (edgeval: 2, SciPy: 15)")
    parser.add_argument(
        "--only", nargs="+", choices=(*SIDES, "narrow"), help="measure these networks; what is known of others is kept"
    )
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA}: no such folder; put BSDS500 there or set STREAMSTYLE_DATA", file=sys.stderr)
        return 2
    say(str(machine()))
    thresholds = np.linspace(0, 1, arguments.thresholds + 2)[1:-1]
    chosen = arguments.only or (CANNY, *SIDES, "narrow")
    nets = {name: network(name) for name in chosen}
    judge = referee(arguments.judged)
    say(f"the referee is {judge.name}" + ("" if judge.name == "edgeval" else "; --help says how it may be edgeval"))
    note = f"BSDS500 val, first {arguments.images} pictures, {len(thresholds)} thresholds"
    note += "; HED was probably trained on them"
    note += (
        f". The part that {judge.name} judged, too: {judge.pictures} pictures, {len(judge.part(thresholds))} thresholds"
    )
    earlier = kept(note, arguments.only, RESULTS / "boundaries.json") if arguments.only else None
    each: list[tuple[dict[str, Tally], dict[str, Tally]]] = []
    for picture in pictures(arguments.images):
        each.append(measure(picture, nets, thresholds, judge if len(each) < judge.pictures else None))
        say(f"{len(each)} of {arguments.images}")
    rows = []
    few = each[: judge.pictures]
    found = {name: scores([tallies[name] for tallies, _ in each]) for name in each[0][0]}
    for name in few[0][1]:
        ours = scores([Tally(judge.part(tallies[name].rows)) for tallies, _ in few])
        theirs = judge.score([tallies[name] for _, tallies in few], judge.part(thresholds))
        for score in ("ODS", "OIS"):  # AP of a few thresholds says nothing
            found[name] |= {f"{score}, part": ours[score], f"{score}, part, {judge.name}": theirs[score]}
    for name, values in found.items():
        for score, value in values.items():
            say(f"{name:<28} {score:<24} {value:.4f}")
            rows.append(figure(f"{name}: {score}", value, ""))
    if earlier:
        others = [row for row in earlier["figures"] if row["name"].rpartition(": ")[0] not in found]
        before = [
            {**each, "ways": sorted(set(each["ways"]) - set(found))} for each in earlier.get("measured later", [])
        ]
        anew = {"ways": sorted(found), "date": datetime.date.today().isoformat(), "machine": machine()}
        later = [each for each in (*before, anew) if each["ways"]]
        save("boundaries", {**earlier, "figures": [*others, *rows], "measured later": later})
    else:
        save("boundaries", {"figures": rows, "note": note})
    return 0


def network(name: str) -> HED | None:
    """A side's, or the narrow one; None for Canny, which has none."""
    if name == CANNY:
        return None
    return HED.load_narrow() if name == "narrow" else HED.load(cast(EdgeSide, name), say=None)


def kept(note: str, names: Sequence[str], file: Path) -> dict[str, Any]:
    """What a file of results has, for others to be put beside it: with the day and the machine it is of.

    Raises:
        SystemExit: there is none, or its note is another.
    """
    earlier: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if earlier.get("note") != note:
        raise SystemExit(
            f"--only {' '.join(names)}: {file} was made with other --images, --thresholds, --judged or another "
            "referee; give those, or measure all anew"
        )
    return earlier


if __name__ == "__main__":
    sys.exit(main())
