"""The third witness: what NumPy, SciPy, OpenCV, scikit-image, libswscale and ONNX Runtime say.

Nothing here shares a line with the package. Each function takes and gives NumPy arrays of one picture unless it says
otherwise; ``pictures`` and ``smooth`` make the known ones.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.measure

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

SWSCALE_SPACE = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": 9}


def swscale_to_rgb(planes: list[np.ndarray], matrix: str, full_range: bool) -> np.ndarray:
    """libswscale's RGB [h, w, 3] uint8 of y, u, v, with its best interpolation."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv444p" if planes[1].shape == planes[0].shape else "yuv420p")
    for plane, pixels in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = pixels
        plane.update(rows)
    frame.colorspace, frame.color_range = _libav_space(matrix), 2 if full_range else 1
    out = frame.reformat(
        format="rgb24",
        src_colorspace=_libav_space(matrix),
        src_color_range=2 if full_range else 1,
        dst_color_range=2,
        interpolation="FULL_CHR_H_INT",
    )
    return out.to_ndarray()


def _libav_space(matrix: str) -> int:
    return {"bt601": 5, "bt709": 1, "bt2020": 9}[matrix]
