"""How well objects were followed: DAVIS's statistics, and how often an object changes its number."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

MATCHED_IOU = 0.1
"""A label that overlaps the true object less than this is not taken for it."""


def recall(per_frame: np.ndarray) -> float:
    """Share of the frames above one half. Source: Perazzi et al. 2016."""
    return float((per_frame > 0.5).mean())


def decay(per_frame: np.ndarray) -> float:
    """Mean of the first quarter of the frames less that of the last. Source: davis2017-evaluation, db_statistics."""
    ends = (np.round(np.linspace(1, len(per_frame), 5) + 1e-10) - 1).astype(int)
    first, last = per_frame[ends[0] : ends[1] + 1], per_frame[ends[3] : ends[4] + 1]
    return float(first.mean() - last.mean())


def dominant_label(labels: np.ndarray, truth: np.ndarray) -> int:
    """The label with most of the true object's pixels, the background among them; -1 where the object is not there."""
    inside = labels[truth]
    return int(np.bincount(inside).argmax()) if inside.size else -1


def matched_label(labels: np.ndarray, truth: np.ndarray) -> int:
    """The object whose IoU with the true one is largest; -1 where none reaches MATCHED_IOU."""
    areas = np.bincount(labels.ravel())
    both = np.bincount(labels[truth], minlength=len(areas))
    iou = both / np.maximum(1, areas + truth.sum() - both)
    iou[0] = 0
    best = int(iou.argmax())
    return best if iou[best] >= MATCHED_IOU else -1


def changes(ids: Iterable[int]) -> int:
    """How often a number differs from the last one; frames without one (-1) are passed over."""
    seen = [i for i in ids if i >= 0]
    return sum(a != b for a, b in itertools.pairwise(seen))


def per_100_frames(count: int, frames: int) -> float:
    """A count, for every 100 steps from a frame to the next."""
    return 100 * count / max(1, frames - 1)
