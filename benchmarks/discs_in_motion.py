"""Discs that move over a ground that moves otherwise, a moment before they are weighed: the same each time."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from streamstyle.objects.evidence import own_motion
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, Cast, Motion, Totals, Weighing
from streamstyle.stages.region_hierarchy import region_hierarchy

SIZE = (120, 214)


def disc(x: float, y: float, radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[h, w] bool, a disc."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.hypot(columns - x, rows - y) <= radius


def picture(discs: list[np.ndarray], rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[3, h, w] uint8: discs in colours of their own on a soft ground, with a little noise."""
    ground = np.stack([cv2.GaussianBlur(rng.random(size, np.float32), (0, 0), 9) for _ in range(3)])
    ground = 90 + 60 * (ground - ground.min()) / np.ptp(ground)
    for k, mask in enumerate(discs):
        ground[:, mask] = np.array([[200, 40, 30], [30, 210, 60], [40, 60, 220]][k % 3])[:, None]
    return np.clip(ground + rng.normal(0, 2, ground.shape), 0, 255).astype(np.uint8)


def segmented(rgb: np.ndarray) -> Segmentation:
    """Its regions, with plain gradients for edges."""
    edges = np.max([cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) for plane in rgb], 0)
    tree = region_hierarchy(torch.from_numpy(edges)[None])
    count, ids = int(tree.regions[0]) + 1, tree.ids[0]
    joins = (tree.into[0, :count], tree.at[0, :count])
    return Segmentation(ids, count, torch.from_numpy(rgb), ids, count, tree=joins)


class Situation:
    """Three discs at most: the first ones have a name, the last was found.

    Args:
        seed: of the noise.
        size: (height, width).
        named: how many have a name, at most 2.

    Attributes:
        masks: where each is now, [h, w] bool.
        found: the frame's regions.
        flow, shares, slots, look: what is known of the frame before and of this one, as a Weighing takes it.
        tracker, cast: who is followed.
    """

    def __init__(self, seed: int = 0, size: tuple[int, int] = SIZE, named: int = 2) -> None:
        rng, scale = np.random.default_rng(seed), size[0] / 120
        order = [*range(named), 2]
        at, step = ((50, 40), (150, 75), (95, 85)), np.array([[6, 2], [-5, 3], [7, -4]]) * scale
        before = [disc(at[k][0] * scale, at[k][1] * scale, (14 + 3 * k) * scale, size) for k in order]
        self.masks = [
            disc(at[k][0] * scale + step[k][0], at[k][1] * scale + step[k][1], (14 + 3 * k) * scale, size)
            for k in order
        ]
        self.found = segmented(picture(self.masks, rng, size))
        self.flow = (np.array([1.5, -0.7]) + rng.normal(0, 0.05, (*size, 2))).astype(np.float32)
        for k, mask in zip(order, self.masks, strict=True):
            self.flow[mask] = -step[k] + rng.normal(0, 0.2, (int(mask.sum()), 2))
        shares = np.stack([cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5) for mask in before])
        self.shares: np.ndarray = shares / np.maximum(1, shares.sum(0))
        self.tracker, self.slots, members = Tracker("components"), np.zeros(size, np.int32), list[int]()
        for k, mask in zip(order, before, strict=True):
            slot = self.tracker.claim(f"thing {k}", 0)
            if k >= named:
                self.tracker.tracks[slot].name = None
            self.slots[mask] = slot
            members.append(slot if k < named else FOUND)
        self.tracker.observe(np.bincount(self.slots.ravel(), minlength=self.tracker.slots), 0)
        alike = np.stack([~np.any(self.masks, 0), *self.masks]) + 0.1 * rng.random((len(order) + 1, *size))
        self.look = torch.from_numpy((alike / alike.sum(0)).astype(np.float32))
        self.cast = Cast(tuple(members), (True,) * len(order), False)

    def half_hidden(self, left: float = 0.3) -> tuple[dict[str, Any], np.ndarray]:
        """What is known where so much of the first is left, and another part of it has come out far from there.

        Returns:
            shares, look and motion for by; and where that part is, [h, w] bool, beyond all that is near.
        """
        scale, (height, width) = self.masks[0].shape[0] / 120, self.masks[0].shape
        there = disc(190 * scale, 20 * scale, 10 * scale, (height, width))
        flow, look, shares = self.flow.copy(), self.look.clone(), self.shares.copy()
        columns = np.flatnonzero((shares[0] > 0.5).any(0))
        motion = np.median(flow[self.masks[0]], 0)
        begins = columns[0] + round(left * len(columns))
        shares[0, :, begins:] = 0
        hidden = self.masks[0] & (np.arange(width) >= begins - round(motion[0]))
        flow[hidden] = np.median(flow[~np.any(self.masks, 0)], 0)
        flow[there] = motion
        look[:, there] = 0
        look[1, there] = 1
        return {"shares": shares, "look": look, "motion": Motion(flow, own_motion(flow))}, there

    def by(
        self, weighing: Weighing, tracker: Tracker, device: torch.device, **given: Any
    ) -> tuple[np.ndarray, np.ndarray, Totals, np.ndarray, np.ndarray]:
        """Shares, overlaps, totals, the map and its areas, by a way to weigh; given: what is otherwise known."""
        motion = given["motion"] if "motion" in given else Motion(self.flow, own_motion(self.flow))
        shares, slots = given.get("shares", self.shares), given.get("slots", self.slots)
        cast, look = given.get("cast", self.cast), given.get("look", self.look)
        shares = None if shares is None else torch.from_numpy(shares).to(device)
        look = None if look is None else look.to(device)
        height, width = self.found.ids.shape
        carried = weighing.carry(shares, slots, motion, cast, (height, width))
        seen = weighing.seen(self.found, carried, motion, look, cast)
        overlap, totals = weighing.settle(seen, carried, cast)
        owners = tracker.update(overlap, 1)[:, 0] if FOUND in cast.members else None
        named = weighing.name(owners)
        return seen.cpu().numpy(), overlap, totals, named, weighing.areas(named)
