"""The third witness: what NumPy, SciPy, OpenCV, scikit-image, libswscale and ONNX Runtime say.

Nothing here shares a line with the package. Each function takes and gives NumPy arrays of one picture unless it says
otherwise.
"""

from __future__ import annotations

import heapq
import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.measure
import torch

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# -- pictures ---------------------------------------------------------------------------------------------------------


def spiral(size: int) -> np.ndarray:
    """One arm, a pixel wide, wound inwards: the longest way through a square."""
    picture = np.zeros((size, size), np.uint8)
    top, left, bottom, right = 0, 0, size - 1, size - 1
    start = 0
    while top <= bottom and left <= right:
        picture[top, start : right + 1] = 1
        picture[top : bottom + 1, right] = 1
        if bottom > top:
            picture[bottom, left : right + 1] = 1
        if top + 2 <= bottom:
            picture[top + 2 : bottom + 1, left] = 1
        start = left
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return picture


def checkerboard(height: int, width: int) -> np.ndarray:
    return (np.indices((height, width)).sum(0) % 2 == 0).astype(np.uint8)


def comb(height: int, width: int, *, joined_at_foot: bool) -> np.ndarray:
    """Teeth a pixel wide, joined along the last or the first row: the worst case for labels that travel downwards."""
    picture = np.zeros((height, width), np.uint8)
    picture[:, ::2] = 1
    picture[-1 if joined_at_foot else 0] = 1
    return picture


def border(height: int, width: int) -> np.ndarray:
    picture = np.ones((height, width), np.uint8)
    picture[1:-1, 1:-1] = 0
    return picture


def known_masks() -> dict[str, np.ndarray]:
    """Masks with an answer one can say aloud, as name -> 0/1 uint8 [h, w]."""
    one = np.zeros((5, 7), np.uint8)
    one[2, 3] = 1
    return {
        "spiral": spiral(21),
        "checkerboard": checkerboard(6, 7),
        "border": border(6, 9),
        "comb": comb(17, 23, joined_at_foot=True),
        "comb from above": comb(17, 23, joined_at_foot=False),
        "one pixel": one,
        "last pixel": np.pad(np.ones((1, 1), np.uint8), ((4, 0), (6, 0))),
        "empty": np.zeros((4, 5), np.uint8),
        "full": np.ones((4, 5), np.uint8),
        "one row": np.array([[1, 1, 0, 1, 0, 0, 1]], np.uint8),
        "one column": np.array([[1, 1, 0, 1, 0, 0, 1]], np.uint8).T,
        "1x1": np.ones((1, 1), np.uint8),
    }


def random_mask(rng: np.random.Generator, height: int, width: int, density: float, grain: int) -> np.ndarray:
    """Cells of grain px, set with a probability of density."""
    cells = rng.random((-(-height // grain), -(-width // grain))) < density
    return np.repeat(np.repeat(cells, grain, 0), grain, 1)[:height, :width].astype(np.uint8)


def smooth(rng: np.random.Generator, height: int, width: int, sigma: float = 3.0) -> np.ndarray:
    """A natural-like plane: blurred noise over the whole of 0..1, float64."""
    noise = scipy.ndimage.gaussian_filter(rng.random((height, width)), sigma)
    return (noise - noise.min()) / max(1e-9, np.ptp(noise))


def edge_picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Edge strength much as HED gives it: soft ridges of varied height on a dark, faintly noisy ground, uint8."""
    picture = np.zeros((height, width), np.float32)
    for _ in range(12):
        points = rng.integers(-20, (width + 20, height + 20), (3, 2)).astype(np.int32)
        line = np.zeros_like(picture)
        cv2.polylines(line, [points], False, float(rng.uniform(90, 250)), int(rng.integers(2, 5)))
        picture = np.maximum(picture, cv2.GaussianBlur(line, (0, 0), 1.5))
    return np.clip(picture + rng.normal(8, 3, picture.shape), 0, 255).astype(np.uint8)


# -- labels -----------------------------------------------------------------------------------------------------------


def components(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """scipy's labels of one mask, renumbered to 1 + the smallest row-major index of each region."""
    labels, count = scipy.ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    canonical = np.zeros(count + 1, np.int32)
    found, first = np.unique(labels, return_index=True)
    canonical[found] = first + 1
    canonical[0] = 0
    return canonical[labels]


def dense(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels renumbered 1, 2, 3 ... in the order in which a raster scan meets them, and how many."""
    numbers: dict[int, int] = {0: 0}
    for label in labels.ravel().tolist():
        numbers.setdefault(label, len(numbers))
    return np.vectorize(numbers.__getitem__, otypes=[np.int32])(labels), len(numbers) - 1


def regions(ids: np.ndarray) -> dict[int, tuple[int, tuple[int, int, int, int], tuple[float, float]]]:
    """scikit-image's area, box (x0, y0, x1, y1) and centroid (x, y) of each id, 0 included."""
    measured = {}
    for region in skimage.measure.regionprops(ids + 1):
        top, left, bottom, right = region.bbox
        row, column = region.centroid
        measured[region.label - 1] = (int(region.area), (left, top, right, bottom), (column, row))
    return measured


def overlap(labels: np.ndarray, others: np.ndarray, count: int, others_count: int) -> np.ndarray:
    table, _, _ = np.histogram2d(labels.ravel(), others.ravel(), (np.arange(count + 1), np.arange(others_count + 1)))
    return table.astype(np.int64)


# -- thresholds -------------------------------------------------------------------------------------------------------


def otsu(edges: np.ndarray) -> int:
    """OpenCV's global level."""
    return int(cv2.threshold(edges, 0, 255, cv2.THRESH_OTSU)[0])


def local_otsu(edges: np.ndarray, side: int) -> np.ndarray:
    """scikit-image's exact level in a sliding square."""
    return skimage.filters.rank.otsu(edges, np.ones((side, side), np.uint8))


# -- colour -----------------------------------------------------------------------------------------------------------


def swscale_to_rgb(planes: list[np.ndarray], matrix: str, full_range: bool) -> np.ndarray:
    """libswscale's RGB [3, h, w] of y, u, v, uint8 or (10 bits) uint16 as they are; 4:2:0 is left-sited.

    swscale stretches the chroma of an odd size over the whole picture, which no decoder means: it is given even ones.
    """
    y, u, v = planes
    height, width = y.shape
    if u.shape != y.shape:
        y = np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge")
    options = f"in_color_matrix={matrix}:in_range={'pc' if full_range else 'tv'}:out_range=pc"
    if u.shape != y.shape:
        options += ":in_h_chr_pos=0:in_v_chr_pos=128"
    deep = "10le" if y.dtype == np.uint16 else ""
    layout = "yuv444p" if u.shape == y.shape else "yuv420p"
    green, blue, red = _swscale([y, u, v], layout + deep, "gbrp" + deep, options)
    return np.stack([red, green, blue])[:, :height, :width]


def swscale_to_yuv(rgb: np.ndarray, matrix: str, full_range: bool, subsample: bool) -> list[np.ndarray]:
    """libswscale's y, u, v of RGB [3, h, w], uint8 or (10 bits) uint16; 4:2:0 is left-sited."""
    options = f"out_color_matrix={matrix}:out_range={'pc' if full_range else 'tv'}:in_range=pc"
    if subsample:
        options += ":out_h_chr_pos=0:out_v_chr_pos=128"
    red, green, blue = rgb
    deep = "10le" if rgb.dtype == np.uint16 else ""
    return _swscale([green, blue, red], "gbrp" + deep, ("yuv420p" if subsample else "yuv444p") + deep, options)


def _swscale(planes: list[np.ndarray], source: str, target: str, options: str) -> list[np.ndarray]:
    import av

    height, width = planes[0].shape
    graph = av.filter.Graph()
    nodes = [
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt={source}:time_base=1/25:pixel_aspect=1/1"),
        graph.add("scale", f"flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp:{options}"),
        graph.add("format", target),
        graph.add("buffersink"),
    ]
    for node, following in itertools.pairwise(nodes):
        node.link_to(following)
    graph.configure()
    frame = av.VideoFrame(width, height, source)
    frame.pts = 0
    for plane, pixels in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // pixels.itemsize), pixels.dtype)
        rows[:, : plane.width] = pixels
        plane.update(rows)
    graph.push(frame)
    out = graph.pull()
    dtype = planes[0].dtype
    return [np.frombuffer(p, dtype).reshape(p.height, -1)[:, : p.width].copy() for p in out.planes]


# -- regions ----------------------------------------------------------------------------------------------------------


def region_tree(
    edges: np.ndarray, floor: int, taps: tuple[int, ...]
) -> tuple[np.ndarray, dict[int, tuple[int, int]], np.ndarray]:
    """A watershed and the greedy merging of its basins, in plain Python.

    Returns ids [h, w] in raster order, {absorbed: (absorber, height)}, and the heights [h, w] in 1/256 of a level.
    """
    heights = np.maximum(edges, floor).astype(np.int64) * 256
    for axis in (0, 1):
        heights = scipy.ndimage.correlate1d(heights, np.array(taps), axis, mode="nearest")
    heights //= sum(taps) ** 2
    basin: dict[tuple[int, int], tuple[int, int]] = {}
    for pixel in np.ndindex(heights.shape):
        if pixel not in basin:
            _run_down(heights, pixel, basin)
    labels = np.zeros(heights.shape, np.int32)
    for pixel, bottom in basin.items():
        labels[pixel] = 1 + bottom[0] * heights.shape[1] + bottom[1]
    ids, _ = dense(labels)
    return ids, greedy_tree(ids, heights), heights


def _around(heights: np.ndarray, pixel: tuple[int, int]) -> list[tuple[int, int]]:
    steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
    beside = [(pixel[0] + y, pixel[1] + x) for y, x in steps]
    return [(y, x) for y, x in beside if 0 <= y < heights.shape[0] and 0 <= x < heights.shape[1]]


def _run_down(heights: np.ndarray, pixel: tuple[int, int], basin: dict[tuple[int, int], tuple[int, int]]) -> None:
    """Follow a drop from a pixel and write down, for every pixel it wets, where it stops: a plateau's first pixel."""
    wet: list[tuple[int, int]] = []
    while pixel not in basin:
        below = [beside for beside in _around(heights, pixel) if heights[beside] < heights[pixel]]
        if below:
            wet.append(pixel)
            pixel = min(below, key=lambda beside: (heights[beside], beside))
            continue
        flat, leaving, todo = {pixel}, [], [pixel]  # a plateau is flooded, and left at the first pixel that falls
        while todo:
            for beside in _around(heights, todo.pop()):
                if heights[beside] != heights[pixel] or beside in flat:
                    continue
                if any(heights[far] < heights[beside] for far in _around(heights, beside)):
                    leaving.append(beside)
                else:
                    flat.add(beside)
                    todo.append(beside)
        wet += flat
        if not leaving:
            basin[pixel] = min(flat)
            break
        pixel = min(leaving)
    basin.update(dict.fromkeys(wet, basin[pixel]))


def _strength(ids: np.ndarray, heights: np.ndarray, one: tuple[int, int], other: tuple[int, int]) -> int:
    """The higher of two pixels, whole where the border between them runs along a ridge, a quarter where it runs across.

    By vectors and a matrix: the border's normal n and the Hessian H of the heights, (n' H n, t' H t) for t across n.
    """

    def inside(y: int, x: int) -> tuple[int, int]:
        return min(max(y, 0), ids.shape[0] - 1), min(max(x, 0), ids.shape[1] - 1)

    normal = np.zeros(2, object)
    for y, x in ((-3, 0), (-2, 2), (0, 3), (2, 2), (3, 0), (2, -2), (0, -3), (-2, -2)):
        region = ids[inside(one[0] + y, one[1] + x)]
        if region in (ids[one], ids[other]):
            normal = normal + np.array([y, x], object) * (1 if region == ids[other] else -1)
    hessian = np.zeros((2, 2), object)
    for y, x in (one, other):
        near = {(i, j): int(heights[inside(y + 2 * i, x + 2 * j)]) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        hessian[0, 0] += 4 * (near[-1, 0] + near[1, 0] - 2 * near[0, 0])
        hessian[1, 1] += 4 * (near[0, -1] + near[0, 1] - 2 * near[0, 0])
        hessian[0, 1] += near[1, 1] + near[-1, -1] - near[1, -1] - near[-1, 1]
    hessian[1, 0] = hessian[0, 1]
    tangent = np.array([-normal[1], normal[0]], object)
    across, along = normal @ hessian @ normal, tangent @ hessian @ tangent
    highest = int(max(heights[one], heights[other]))
    agreement = Fraction(along - across, abs(along) + abs(across)) if along or across else 1
    return math.floor(highest * (5 + 3 * agreement) / Fraction(8))


def greedy_tree(ids: np.ndarray, heights: np.ndarray) -> dict[int, tuple[int, int]]:
    """The weakest border of all falls, one after the other: a heap whose outdated entries are passed over."""
    borders: dict[frozenset[int], list] = {}  # pair of regions: sum, length, its number
    for pixel in np.ndindex(ids.shape):
        for beside in ((pixel[0], pixel[1] + 1), (pixel[0] + 1, pixel[1])):
            if beside[0] < ids.shape[0] and beside[1] < ids.shape[1] and ids[pixel] != ids[beside]:
                pair = frozenset((int(ids[pixel]), int(ids[beside])))
                border = borders.setdefault(pair, [0, 0, tuple(sorted(pair))])
                border[0] += _strength(ids, heights, pixel, beside)
                border[1] += 1
    heap = [(total // length, number, pair) for pair, (total, length, number) in borders.items()]
    heapq.heapify(heap)
    tree: dict[int, tuple[int, int]] = {}
    while heap:
        height, number, pair = heapq.heappop(heap)
        if pair not in borders or (borders[pair][0] // borders[pair][1], borders[pair][2]) != (height, number):
            continue
        low, high = sorted(pair)
        tree[high] = (low, height)
        del borders[pair]
        for other in [next(iter(p - {high})) for p in borders if high in p]:
            moved, there = borders.pop(frozenset((high, other))), borders.get(frozenset((low, other)))
            if there is not None:
                least = min((b[0] // b[1], b[2]) for b in (moved, there))
                moved = [moved[0] + there[0], moved[1] + there[1], least[1]]
            borders[frozenset((low, other))] = moved
            heapq.heappush(heap, (moved[0] // moved[1], moved[2], frozenset((low, other))))
    return tree


# -- the painting network ---------------------------------------------------------------------------------------------


EPSILON = 1e-5
"""In the norms of the published graph, all 18 of them; Magenta's variance_epsilon."""


def stylenet_session(weights: dict[str, np.ndarray], style: int) -> onnxruntime.InferenceSession:
    """Dumoulin's network for one style as an ONNX graph, written out from the paper's table: rgb in, painted out."""
    import onnx
    import onnxruntime

    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        tensors.append(onnx.numpy_helper.from_array(value, name))
        return name

    def node(kind: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(onnx.helper.make_node(kind, inputs, [f"t{len(nodes)}"], **attributes))
        return f"t{len(nodes) - 1}"

    def block(x: str, name: str, size: int, stride: int = 1) -> str:
        pad = size // 2
        x = node("Pad", [x, constant(f"{name}.pads", np.array([0, 0, pad, pad] * 2))], mode="reflect")
        x = node("Conv", [x, constant(f"{name}.w", weights[f"{name}.w"])], strides=[stride, stride])
        gamma, beta = (
            constant(f"{name}.{part}", weights[f"{name}.norm.{part}"][style].copy()) for part in ("gamma", "beta")
        )
        return node("InstanceNormalization", [x, gamma, beta], epsilon=EPSILON)

    x = node("Relu", [block("rgb", "contract.0", 9)])
    x = node("Relu", [block(x, "contract.1", 3, 2)])
    x = node("Relu", [block(x, "contract.2", 3, 2)])
    for i in range(6):
        inner = node("Relu", [block(x, f"res.{i}.0", 3)])
        x = node("Add", [x, block(inner, f"res.{i}.1", 3)])
    scales = constant("scales", np.array([1, 1, 2, 2], np.float32))
    for i in range(2):
        resize = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        x = node("Relu", [block(node("Resize", [x, "", scales], **resize), f"expand.{i}", 3)])
    x = node("Sigmoid", [block(x, "expand.2", 9)])
    picture = onnx.TensorProto.FLOAT, [None, 3, None, None]
    graph = onnx.helper.make_graph(
        nodes,
        "stylenet",
        [onnx.helper.make_tensor_value_info("rgb", *picture)],
        [onnx.helper.make_tensor_value_info(x, *picture)],
        tensors,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


# -- a film with an answer: three flat discs that move over a flat ground ----------------------------------------------

HEIGHT, WIDTH = 160, 240
FRAMES = 20
RADIUS = 24
COLOURS = ((0.9, 0.2, 0.1), (0.1, 0.2, 0.8), (0.95, 0.9, 0.2))
GROUND = (0.12, 0.14, 0.12)
PLACES = ((45, 40), (120, 115), (190, 50))
"""Centre (x, y) of each disc in the first frame, px."""
STEPS = ((2.0, 1.0), (-2.0, 0.0), (-1.0, 2.0))
"""How far it moves from frame to frame, px."""


def disc_centre(k: int, frame: int) -> tuple[float, float]:
    return PLACES[k][0] + STEPS[k][0] * frame, PLACES[k][1] + STEPS[k][1] * frame


def disc(k: int, frame: int) -> np.ndarray:
    """Where disc k is, [HEIGHT, WIDTH] bool."""
    x, y = disc_centre(k, frame)
    rows, columns = np.indices((HEIGHT, WIDTH))
    return (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2


def disc_picture(frame: int) -> torch.Tensor:
    """One frame, [1, 3, HEIGHT, WIDTH] float32, its borders a little soft as a lens makes them."""
    rgb = np.empty((HEIGHT, WIDTH, 3), np.float32)
    rgb[:] = GROUND
    for k, colour in enumerate(COLOURS):
        rgb[disc(k, frame)] = colour
    return torch.from_numpy(cv2.GaussianBlur(rgb, (0, 0), 0.7)).permute(2, 0, 1)[None].contiguous()


def disc_luma(frame: int) -> np.ndarray:
    """Its luma, [HEIGHT, WIDTH] uint8."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return ((disc_picture(frame)[0] * weights).sum(0) * 219 + 16.5).to(torch.uint8).numpy()


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / max(1, (mask | other).sum()))
