"""Knows found objects again: who left the picture or was hidden, and is born anew in the same shot, keeps its number.

::

    descriptions [P, D] ─┬─► mean over each object ─► its look, a running mean while it lives
                         │                               │ it ends: one of MOST_GONE that are remembered
                         └─► the frame's scatter ────────┴─► how alike is one just born to those gone, those there

Named objects need none of this: each is a class of the appearance model, and lives on unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle.objects.tracker import Tracker

MOST_GONE = 8
"""Objects remembered of a shot after they were lost; who was lost first is forgotten first."""
SAME_LIKENESS = 0.5
"""One born is one gone from this likeness on. In the six films of benchmarks/eval_shots.py that turn away four objects,
cut out by their true masks, reach it within ten frames of coming back (a car and a cart that turned meanwhile do not);
of 60 others pasted in their places none is above .35, of 72 pieces of ground there none above .46."""
MARGIN = 0.15
"""It must be so much more alike than any other that is gone or there: of two alike, neither is."""
MOST_TIMES = 5.0
"""It is at most so many times larger or smaller: what comes in at the border shows a part of itself first."""
KNOWN_LOOKS = 3
"""Analysed frames in which an object must have been seen to be remembered: a fleck, perhaps of it, would be a rival."""
YOUNG_LOOKS = 8
"""Analysed frames from its birth on in which an object may turn out to be one gone: a sliver of it tells little."""
YOUNG_RATE, LOOK_RATE = 0.5, 0.1
"""Weight of a new frame in the mean of a young object's look, and of another's."""
LEARN_EVERY = 4
"""Of an object that is not young one in so many analysed frames is learned: its look changes slowly."""
WHOLE_SHARE = 0.5
"""An object with less than this share of its usual area is going or hidden, and not learned."""
COLORS = 10
"""The last numbers of a description: its colours, and the 1. A likeness is the mean of that by all of a description and
that by the rest of it, the features: light changes, and what differs in one of the two is rarely alike in the other."""
RIDGE = 0.1
"""Share of the scatter's mean variance that is added to every direction; of .01, .03, .1 and .3 it matters little."""

Blocks = Callable[[Sequence[int]], tuple[Tensor, Sequence[float]]]


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

    def step(self, tracker: Tracker, areas: np.ndarray, blocks: Blocks, x: Tensor) -> None:
        """Take in a frame, before the tracker observes it: who is young and clearly one gone becomes that.

        Args:
            tracker: whose tracks they are.
            areas: pixels of each slot in the frame's map.
            blocks: of some slots the weights [len, P] float32 of blocks in each one's mean, and how many those are.
            x: [P, D] float32, descriptions of the frame; see AppearanceModel.describe.

        Cost: nothing where nobody is, else a small matrix product; where somebody is learned (synchronises) or is young
            after another was lost a D x D factorization on the host (synchronises).
        """
        self._miss(tracker)
        self._learn(tracker, areas, blocks, x)
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
            if ended is not None and not ended.name and ended.seen >= KNOWN_LOOKS:
                self._gone[track_id] = look
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _learn(self, tracker: Tracker, areas: np.ndarray, blocks: Blocks, x: Tensor) -> None:
        shown = [
            slot
            for slot, track in tracker.tracks.items()
            if areas[slot] > WHOLE_SHARE * track.usual_area_px
            and (track.seen < YOUNG_LOOKS or track.seen % LEARN_EVERY == 0)
        ]
        if not shown:
            return
        weights, counts = blocks(shown)
        means = weights.to(x) @ x
        for slot, mean, count in zip(shown, means, counts, strict=True):
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
        alike = likeness(looks, torch.stack([*self._gone.values(), *there]), x, len(x[0]) - COLORS)
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


def likeness(these: Tensor, those: Tensor, x: Tensor, channels: int) -> np.ndarray:
    """How alike looks are, beside how a frame scatters: the cosine of the angle they make seen from the frame's mean.

    Args:
        these: [N, D] looks; those: [M, D].
        x: [P, D], descriptions of the frame.
        channels: how many of D, the first ones, are the network's; see COLORS.

    Returns:
        [N, M] float64, -1 .. 1.

    Cost: two factorizations, D x D at most, on the host; synchronises.
    """
    center = x.mean(0)
    apart = x - center  # before it is squared: so rounding stays far below the ridge, however flat the picture
    mean, scatter = center.cpu().double(), (apart.T @ apart / len(x)).cpu().double()  # synchronises
    parts = (slice(None), slice(channels))
    return np.mean([_cosines(these[:, p], those[:, p], mean[p], scatter[p, p]) for p in parts], axis=0)


def _cosines(these: Tensor, those: Tensor, mean: Tensor, scatter: Tensor) -> np.ndarray:
    """likeness by all of looks [N, D] and [M, D], beside a frame's mean [D] and scatter [D, D]."""
    scatter = scatter + (RIDGE * float(scatter.diagonal().mean()) + 1e-12) * torch.eye(len(mean), dtype=torch.float64)
    root = torch.linalg.cholesky(scatter)
    one, other = (
        torch.linalg.solve_triangular(root, (looks.cpu().double() - mean).T, upper=False) for looks in (these, those)
    )
    lengths = one.norm(dim=0)[:, None] * other.norm(dim=0)[None]
    return (one.T @ other / lengths.clamp_min(1e-12)).numpy()


def _plain(looks: dict[int, Tensor]) -> list[tuple[int, np.ndarray]]:
    return [(track_id, look.cpu().numpy()) for track_id, look in looks.items()]
