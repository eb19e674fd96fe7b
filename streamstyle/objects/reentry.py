"""Knows found objects again: who left the picture or was hidden, and is born anew in the same shot, keeps its number.

::

    descriptions [P, D] ─┬─► mean over each object ─► its look, a running mean while it lives
                         │                               │ it ends: one of MOST_GONE that are remembered
                         └─► the frame's scatter ────────┴─► how alike is one just born to those gone, those there

Named objects need none of this: each is a class of the appearance model, and lives on unseen.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.objects.tracker import Tracker

MOST_GONE = 8
"""Objects remembered of a shot after they were lost; who was lost first is forgotten first."""
SAME_LIKENESS = 0.6
"""One born is one gone from this likeness on. On eight DAVIS sequences 66 % of pairs of frames of one object, 4 to 98
frames apart, are above it (those below are cars and a dog that turn), .3 % of pairs of objects of two sequences, and
never an object and the ground."""
MARGIN = 0.15
"""It must be so much more alike than any other that is gone or there: of two alike, neither is."""
MOST_TIMES = 5.0
"""It is at most so many times larger or smaller: what comes in at the border shows a part of itself first."""
YOUNG_LOOKS = 8
"""Analysed frames from its birth on in which an object may turn out to be one gone: a sliver of it tells little."""
YOUNG_RATE, LOOK_RATE = 0.5, 0.1
"""Weight of a new frame in the mean of a young object's look, and of another's."""
LEARN_EVERY = 4
"""Of an object that is not young one in so many analysed frames is learned: its look changes slowly."""
WHOLE_SHARE = 0.5
"""An object with less than this share of its usual area is going or hidden, and not learned."""
RIDGE = 0.01
"""Share of the scatter's mean variance that is added to every direction. Of .001, .01, .1 and 1, and of likenesses by
distance, this tells objects from others best, with .001."""


class Reentry:
    """The looks of a shot's objects, means [D] of their descriptions: of those there are, and of some that are gone.

    Args:
        device: where descriptions come from.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget all: a shot begins."""
        self._living: dict[int, Tensor] = {}
        self._gone: dict[int, Tensor] = {}

    def step(self, tracker: Tracker, slots: np.ndarray, x: Tensor, grid: tuple[int, int]) -> None:
        """Take in a frame, before the tracker observes it: who is young and clearly one gone becomes that.

        Args:
            tracker: whose tracks they are.
            slots: [h, w] int32, the frame's map.
            x: [P, D] float32, descriptions of the frame; see AppearanceModel.describe.
            grid: the (height, width) they are of.

        Cost: nothing where nobody is, else a small matrix product; and a D x D factorization on the host (synchronises)
        in frames that have somebody young after another was lost.
        """
        areas = np.bincount(slots.ravel(), minlength=tracker.slots)
        self._miss(tracker)
        self._learn(tracker, slots, areas, x, grid)
        young = [
            slot
            for slot, track in tracker.tracks.items()
            if areas[slot] and not track.name and track.seen < YOUNG_LOOKS and track.track_id in self._living
        ]
        if young and self._gone:
            self._compare(tracker, young, areas, x)

    def _miss(self, tracker: Tracker) -> None:
        """Remember who has ended since; one that was never confirmed had no number."""
        there = {track.track_id for track in tracker.tracks.values()}
        for track_id in [known for known in self._living if known not in there]:
            look, ended = self._living.pop(track_id), tracker.ended_track(track_id)
            if ended is not None and not ended.name:
                self._gone[track_id] = look
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _learn(self, tracker: Tracker, slots: np.ndarray, areas: np.ndarray, x: Tensor, grid: tuple[int, int]) -> None:
        shown = [
            slot
            for slot, track in tracker.tracks.items()
            if areas[slot] > WHOLE_SHARE * track.usual_area_px
            and (track.seen < YOUNG_LOOKS or track.seen % LEARN_EVERY == 0)
        ]
        if not shown:
            return
        covered = [cv2.resize((slots == k).astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA) for k in shown]
        sure = np.clip(2 * np.stack(covered).reshape(len(shown), -1) - 1, 0, None)
        blocks = sure.sum(1, keepdims=True)
        means = torch.from_numpy(sure / np.maximum(blocks, 1)).to(x) @ x
        for slot, mean, count in zip(shown, means, blocks[:, 0], strict=True):
            if count < 1:
                continue
            track = tracker.tracks[slot]
            rate = YOUNG_RATE if track.seen < YOUNG_LOOKS else LOOK_RATE
            look = self._living.get(track.track_id, mean)
            self._living[track.track_id] = torch.lerp(look, mean, rate)

    def _compare(self, tracker: Tracker, young: list[int], areas: np.ndarray, x: Tensor) -> None:
        ids, gone = [tracker.tracks[slot].track_id for slot in young], list(self._gone)
        there = [look for track_id, look in self._living.items() if track_id not in ids]
        looks = torch.stack([self._living[track_id] for track_id in ids])
        alike = likeness(looks, torch.stack([*self._gone.values(), *there]), x)
        for row, slot in enumerate(young):
            may_be = [k for k in range(len(gone)) if self._may_be(tracker, slot, areas[slot], gone[k])]
            if not may_be:
                continue
            best = max(may_be, key=lambda k: alike[row, k])
            rivals = np.concatenate([np.delete(alike[row], best), np.delete(alike[:, best], row)])
            if alike[row, best] >= max(SAME_LIKENESS, rivals.max(initial=-1.0) + MARGIN):
                tracker.revive(slot, gone[best])
                del self._living[ids[row]]
                self._living[gone[best]] = self._gone.pop(gone[best])

    def _may_be(self, tracker: Tracker, slot: int, area: int, track_id: int) -> bool:
        """Whether one that is young may be one gone, by its time and size."""
        before, now = tracker.ended_track(track_id), tracker.tracks[slot]
        if before is None or track_id not in self._gone:  # ended is bounded, too; or another took it just now
            return False
        larger = area / before.mean_area_px
        return before.last_frame < now.first_frame and 1 / MOST_TIMES <= larger <= MOST_TIMES

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {"living": _plain(self._living), "gone": _plain(self._gone)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        self._living, self._gone = self._looks(state["living"]), self._looks(state["gone"])

    def _looks(self, looks: list[tuple[int, np.ndarray]]) -> dict[int, Tensor]:
        return {track_id: torch.from_numpy(look).to(self._device) for track_id, look in looks}


def likeness(these: Tensor, those: Tensor, x: Tensor) -> np.ndarray:
    """How alike looks are, beside how a frame scatters: the cosine of the angle they make seen from the frame's mean.

    Args:
        these: [N, D] looks; those: [M, D].
        x: [P, D], descriptions of the frame.

    Returns:
        [N, M] float64, -1 .. 1.

    Cost: one D x D factorization on the host; synchronises.
    """
    return cosines(these, those, *scattered(x), ridge=RIDGE)


def scattered(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] and the scatter [D, D] of descriptions [P, D], float64 on the host; synchronises."""
    center = x.mean(0)
    apart = x - center  # before it is squared: so rounding stays far below the ridge, however flat the picture
    return center.cpu().double(), (apart.T @ apart / len(x)).cpu().double()  # synchronises


def cosines(these: Tensor, those: Tensor, mean: Tensor, scatter: Tensor, *, ridge: float) -> np.ndarray:
    """likeness beside a frame's mean and scatter, to which a share of its mean variance is added; [N, M] float64."""
    scatter = scatter + (ridge * float(scatter.diagonal().mean()) + 1e-12) * torch.eye(len(mean), dtype=torch.float64)
    root = torch.linalg.cholesky(scatter)
    one, other = (
        torch.linalg.solve_triangular(root, (looks.cpu().double() - mean).T, upper=False) for looks in (these, those)
    )
    lengths = one.norm(dim=0)[:, None] * other.norm(dim=0)[None]
    return (one.T @ other / lengths.clamp_min(1e-12)).numpy()


def _plain(looks: dict[int, Tensor]) -> list[tuple[int, np.ndarray]]:
    return [(track_id, look.cpu().numpy()) for track_id, look in looks.items()]
