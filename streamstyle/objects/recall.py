"""Knows named objects again in a new shot, where that is clear: the person from another angle, after a cut.

::

    a shot in which a person named it ─► the mean description of it there: a look, [D], one a shot
                                                          │
    a shot without it ─► what moves by itself, in pieces ─┴─► how alike, beside how the frame scatters
                                                                 │ clearly
                                                                 ▼
                                                       the piece is it, from that frame on

A look holds in every shot, so it is of the features as they are, not of a shot's principal directions. What was known
again teaches nothing: one error would bring on others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.objects.appearance import color_parts, halved
from streamstyle.objects.reentry import likeness

LAYERS = 2
"""How many of appearance.LOOK_LAYERS are compared. What 4_3 sees reaches 92 px, and around a thing another shot has
other things: with it 4 of the 24 below were above all others, not 11."""
PLAIN_COLORS = 9
"""The last numbers of a description; those before are the network's."""
SAME_LIKENESS = 0.63
"""A piece is an object from this likeness on. Of the objects of eight DAVIS sequences, in mirrored and enlarged views
of three later frames, 13 of 24 are above it, and one of the 168 others (none above .64, four above .6). By HED itself
likenesses are smaller, and fewer are known again."""
MARGIN = 0.2
"""It must be so much more alike than any other object is to the piece, or any other piece to it: of two, neither is."""
MOST_LOOKS = 8
"""Shots remembered of an object; of those in which a person named it, the last."""
LOOK_RATE = 0.1
"""Weight of a frame in the mean of a shot's look, at least."""
LEARN_EVERY = 4
"""Of an object one in so many analysed frames is learned, after the first."""
SEARCH_LOOKS = 5
"""Analysed frames from a shot's first on in which an object that is missing is looked for."""
SMALLEST_PIECE = 0.003
"""Share of the frame below which a piece is not compared."""


class Recall:
    """The looks of the objects that a person named, in the shots they were named in.

    Args:
        device: where descriptions come from.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._looks: dict[str, dict[int, tuple[int, Tensor]]] = {}

    @property
    def names(self) -> set[str]:
        """The objects that might be known again."""
        return set(self._looks)

    def learn(self, name: str, shot: int, mask: np.ndarray, features: Sequence[Tensor], rgb: Tensor) -> None:
        """Take in a frame of an object.

        Args:
            name: whose; shot: the number of the shot, in which a person named it.
            mask: [h, w] bool, where it is.
            features, rgb: what AppearanceModel.describe takes.

        Cost: a few ms at 427x240 on one core.
        """
        seen, look = self._looks.get(name, {}).get(shot, (0, None))
        if look is not None and seen % LEARN_EVERY:
            self._looks[name][shot] = (seen + 1, look)
            return
        sure = _sure_of(mask, (features[1].shape[1], features[1].shape[2]))
        if sure is None:
            return
        rows = np.flatnonzero(sure)
        mean = torch.from_numpy(sure[rows]).to(features[1].device) @ described(features, rgb, rows)
        looks = self._looks.setdefault(name, {})
        learned = 1 + seen // LEARN_EVERY
        looks[shot] = (seen + 1, mean if look is None else torch.lerp(look, mean, max(LOOK_RATE, 1 / learned)))
        while len(looks) > MOST_LOOKS:
            del looks[next(iter(looks))]

    def forget(self, name: str, shot: int) -> None:
        """What was learned of an object in a shot was not it alone: a person took something out of it."""
        looks = self._looks.get(name, {})
        looks.pop(shot, None)
        if not looks:
            self._looks.pop(name, None)

    def known(
        self, missing: Collection[str], pieces: Sequence[np.ndarray], features: Sequence[Tensor], rgb: Tensor
    ) -> dict[str, int]:
        """Which of the objects that are missing are clearly one of the pieces of a frame, and which.

        Args:
            missing: their names.
            pieces: [h, w] bool each.
            features, rgb: what AppearanceModel.describe takes.

        Cost: where there are pieces, a D x D matrix product and its factorization on the host, some 40 ms at 427x240
            on one core; synchronises.
        """
        if not pieces or not missing:
            return {}
        weights = [_sure_of(piece, (features[1].shape[1], features[1].shape[2])) for piece in pieces]
        there = [k for k, sure in enumerate(weights) if sure is not None]
        if not there:
            return {}
        x = described(features, rgb)
        means = torch.from_numpy(np.stack([sure for sure in weights if sure is not None])).to(x) @ x
        names = list(self._looks)
        looks = [look for name in names for _, look in self._looks[name].values()]
        each = likeness(means, torch.stack(looks), x, x.shape[1] - PLAIN_COLORS)
        ends = np.cumsum([len(self._looks[name]) for name in names])
        alike = np.stack([part.max(1) for part in np.split(each, ends[:-1], axis=1)])  # [names, pieces]
        found = {}
        for row, name in enumerate(names):
            best = int(alike[row].argmax())
            rivals = np.concatenate([np.delete(alike[row], best), np.delete(alike[:, best], row)])
            if name in missing and alike[row, best] >= max(SAME_LIKENESS, rivals.max(initial=-1.0) + MARGIN):
                found[name] = there[best]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        plain = [(name, shot, *look) for name, looks in self._looks.items() for shot, look in looks.items()]
        return {"looks": [(name, shot, seen, look.cpu().numpy()) for name, shot, seen, look in plain]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        self._looks = {}
        for name, shot, seen, look in state["looks"]:
            self._looks.setdefault(name, {})[shot] = (seen, torch.from_numpy(look).to(self._device))


def described(features: Sequence[Tensor], rgb: Tensor, rows: np.ndarray | None = None) -> Tensor:
    """Descriptions of a frame that are alike in all shots: AppearanceModel.describe's of LAYERS, of all channels.

    Args:
        features, rgb: what that takes.
        rows: the blocks that are wanted; None for all.

    Returns:
        [P, D] float32, row-major over the second block's places.
    """
    size, device = (features[1].shape[1], features[1].shape[2]), features[1].device
    chosen = slice(None) if rows is None else torch.from_numpy(rows).to(device)
    blocks = [block.permute(1, 2, 0).flatten(0, 1)[chosen] for block in (halved(features[0]), *features[1:LAYERS])]
    blocks = [F.normalize(block.float(), dim=1) for block in blocks]
    return torch.cat([*blocks, *(part[chosen] for part in color_parts(rgb, size, device))], 1)


def pieces_of(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask [h, w] bool that are large enough to be compared, each [h, w] bool."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [labels == k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= SMALLEST_PIECE * mask.size]


def _sure_of(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    """[P] float32 weights, of sum 1, by which a mask [h, w] bool covers blocks; None where it fills none."""
    covered = cv2.resize(mask.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA).ravel()
    sure = np.clip(2 * covered - 1, 0, None)
    return None if sure.sum() < 1 else sure / sure.sum()
