"""Weighs on the host, in NumPy and OpenCV; what a device does instead is in device_weighing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.objects.area_filter import SPECK_SHARE, clear_specks_, fill_, pinholes, small_parts
from streamstyle.objects.bilateral_filter import smooth_borders_
from streamstyle.objects.evidence import (
    MOVED_SHARE,
    MOVING_SHARE,
    NOT_FOUND,
    by_carried,
    by_look,
    drawn_to_bodies_,
    drawn_to_regions_,
    found_odds,
    held_against,
    moves_alike,
    moves_by_itself,
    moving_shares,
    near,
    surely,
    with_newcomers,
)
from streamstyle.objects.guided_filter import GuidedFilter, drawn_to_colors
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import BACKGROUND, Tracker
from streamstyle.objects.trust import doubted
from streamstyle.objects.weighing import (
    FOUND,
    SMALLEST_FOUND,
    Cast,
    Motion,
    Totals,
    had_time_to_move,
    hidden_below_px,
    lost_below_px,
)
from streamstyle.stages.optical_flow import carry, carry_labels
from streamstyle.stages.region_stats import id_areas

Maybe = np.ndarray | None
GUIDED_PX = 12
"""Radius (of 240 lines) in which a share follows the colours. On six DAVIS sequences J is .708 without, and before
FIRMNESS .725 at 6, .730 at 12, .724 at 16: what hides and what splashes want a large one, grey cars on grey roads a
small one."""
LOST_PRIOR, LOST_MOTION_WEIGHT = 0.3, 1.0
"""What is looked for where it was not carried to is rather what moves by itself: the dog that was hidden, not the post
it passes. That it stands still says nothing: where a camera turns back to who was lost, little moves by itself as far
as one can tell.
On the films that look away J is .49 where stillness counts, .58 where it does not."""


@dataclass(frozen=True)
class HostCarried:
    """What was carried into a frame: shares [K, h, w] float32 and slots [h, w] int32; None where a shot begins."""

    shares: Maybe
    slots: Maybe


@dataclass(frozen=True)
class _Settled:
    """A map before its pieces have a name: slots [h, w] int32, and the numbers of FOUND's pieces."""

    slots: np.ndarray
    pieces: np.ndarray


class HostWeighing:
    """A Weighing of NumPy arrays.

    Args:
        tracker: whose tracks are followed; it is told how much of each moves.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._settled: _Settled | None = None

    def carry(
        self, shares: Tensor | None, slots: Maybe, motion: Motion, cast: Cast, size: tuple[int, int]
    ) -> HostCarried:
        """As of a Weighing."""
        maps = None if shares is None else shares.numpy()
        if maps is not None and len(maps):
            maps = np.stack([carry(share, motion.flow) for share in maps])
        return HostCarried(maps, None if slots is None else carry_labels(slots, motion.flow))

    def carried_shares(self, carried: HostCarried) -> Tensor | None:
        """As of a Weighing."""
        return None if carried.shares is None else torch.from_numpy(carried.shares)

    def carried_slots(self, carried: HostCarried) -> np.ndarray:
        """As of a Weighing."""
        assert carried.slots is not None
        return carried.slots

    def seen(
        self, found: Segmentation, carried: HostCarried, motion: Motion, look: Tensor | None, cast: Cast
    ) -> Tensor:
        """As of a Weighing."""
        shape = (found.ids.shape[0], found.ids.shape[1])
        if look is not None and look.shape[1:] != shape:
            look = F.interpolate(look[None], size=shape, mode="bilinear")[0]
        seen = None if look is None else look.cpu().numpy()
        return torch.from_numpy(self.weighed(found, carried, motion, seen, cast))

    def weighed(self, found: Segmentation, carried: HostCarried, motion: Motion, look: Maybe, cast: Cast) -> np.ndarray:
        """Each class's share of each pixel, [K, h, w] float32; look: [K + 1, h, w]."""
        shape = (found.ids.shape[0], found.ids.shape[1])
        shares, slots, own = carried.shares, carried.slots, motion.own
        anybody = bool(cast.named)
        trust = motion.trust if anybody else None
        rest = sure = np.zeros(shape, np.float32) if look is None else by_look(look[0])
        if shares is not None:
            left = 1 - shares.sum(0)
            sure = rest + by_carried(left, named=anybody)
            rest = sure if trust is None else rest + by_carried(doubted(left, trust), named=anybody)
        doubt = None if rest is sure else rest - sure
        odds, gates = list[np.ndarray](), list[Maybe]()
        for k, slot in enumerate(cast.members):
            before = None if shares is None else shares[k]
            # What nobody has seen yet may look like anything.
            seen = look[k + 1] if look is not None and cast.knows[k] else None
            if slot == FOUND:
                moving = None if own is None else self.motion_of_found(motion, slots)
                weighed, gate = self.found_odds(before, seen, moving, slots, sure, like_named(look, shape, cast), cast)
            else:
                assert before is not None
                weighed, gate = self.named_odds(slot, before, seen, motion, trust, doubt)
            if slot == FOUND and doubt is not None:
                weighed = weighed + doubt  # of what has no name nothing carried is doubted
            if slot == FOUND:
                weighed = np.where(taken(shares, cast), NOT_FOUND, weighed)
            odds.append(weighed)
            gates.append(gate)
        if not odds:
            return np.zeros((0, *shape), np.float32)
        return agreed(rest, odds, gates, found, cast)

    def named_odds(
        self,
        slot: int,
        before: np.ndarray,
        seen: Maybe,
        motion: Motion,
        trust: Maybe = None,
        doubt: Maybe = None,
    ) -> tuple[np.ndarray, Maybe]:
        """Log-likelihood of a named object; and where it may be, None for everywhere.

        One that is lost is looked for everywhere. One that is partly hidden may come out wherever what looks like it
        moves by itself and as it does: a dog that runs behind a post comes out farther from where it was than near
        goes. There it is weighed as if it were lost.

        Args:
            slot: its track.
            before: [h, w] its share, carried here.
            seen: [h, w] how it looks; trust: [h, w]; None where nobody knows.
            motion: the frame's.
            doubt: [h, w], what the background gains by trust; who is lost gains as much. None: nothing.
        """
        core, track, own = before > 0.5, self.tracker.tracks[slot], motion.own
        core_px = np.count_nonzero(core)
        alike: Maybe = None
        gate: Maybe = None
        anywhere: Maybe = None
        if core_px < lost_below_px(track):
            anywhere = np.ones(before.shape, bool)
        else:
            gate = near(core)
            alike = None if own is None else moves_alike(own, core, (gate > 0) & ~core)
        if alike is not None and seen is not None and core_px < hidden_below_px(track):
            assert gate is not None
            anywhere = (before < LOST_PRIOR) & (seen > 0.5) & (alike > 0) & (moving_of(motion) > 0)
            gate = np.where(anywhere, np.float32(1), gate)
        prior = doubted(before, trust)
        odds = by_carried(prior if anywhere is None else np.where(anywhere, np.float32(LOST_PRIOR), prior), named=True)
        if seen is not None:
            odds = odds + by_look(seen)
        if alike is not None:
            odds = odds + alike
        if anywhere is not None and own is not None:
            itself = np.maximum(0, moving_of(motion))
            odds = odds + np.where(anywhere, LOST_MOTION_WEIGHT * itself, np.float32(0))
        if anywhere is not None and doubt is not None:
            odds = odds + np.where(anywhere, doubt, np.float32(0))
        return odds, gate

    def found_odds(
        self, before: Maybe, seen: Maybe, motion: Maybe, slots: Maybe, rest: np.ndarray, alike: np.ndarray, cast: Cast
    ) -> tuple[np.ndarray, Maybe]:
        """As named_odds, of FOUND; alike: where somebody new would be taken for one whom a person named; motion: of
        motion_of_found."""
        gate = None if before is None or cast.eager else near(before > 0.5)
        if _nobody_found(slots, cast):
            # Who begins to move later is as good as who moved from the first, and better if it looks like who has left.
            return np.where(alike, NOT_FOUND, found_odds(None, None, motion, rest.shape)), None
        odds = found_odds(before, seen, motion, rest.shape, named=bool(cast.named))
        if cast.eager or motion is None or slots is None:
            return odds, gate
        far = near(slots != BACKGROUND) == 0
        return np.where(far & alike, NOT_FOUND, with_newcomers(odds, rest, motion, far)), gate

    def motion_of_found(self, motion: Motion, slots: Maybe) -> np.ndarray:
        """Log-odds that a pixel moves by itself; firm where an object moves, or never did, see STILL_TIMES. What stands
        out surely does, though nobody saw it."""
        odds, out = seen_moving(motion), motion.out
        if slots is None:
            return surely(odds, out)
        shares, firm = moving_shares(odds, slots, self.tracker.slots), np.zeros(self.tracker.slots, bool)
        for slot, track in self.tracker.tracks.items():
            track.moved = max(track.moved, float(shares[slot]))
            never = track.moved < MOVED_SHARE and had_time_to_move(track)
            firm[slot] = shares[slot] >= MOVING_SHARE or never
        return surely(held_against(odds, slots, firm), out)

    def settle(self, shares: Tensor, carried: HostCarried, cast: Cast) -> tuple[np.ndarray, Totals]:
        """As of a Weighing."""
        maps = shares.numpy()
        count, shape = self.tracker.slots, maps.shape[1:]
        slots, overlap = np.full(shape, BACKGROUND, np.int32), np.zeros((1, count), np.int64)
        for slot, share in zip(cast.members, maps, strict=True):
            slots[share > 0.5] = slot  # at most one's is
        pieces = np.zeros(shape, np.int32)
        if FOUND in cast.members:
            mask = slots == FOUND
            pieces, regions = _pieces(mask)
            slots[mask & (pieces == 0)] = BACKGROUND
        clear_specks_(slots, dict.fromkeys((slot for slot in cast.members if slot != FOUND), SPECK_SHARE), BACKGROUND)
        if FOUND in cast.members:
            fill_(pieces, pinholes(pieces > 0), slots == BACKGROUND)
            pair = pieces * count
            pair = pair if carried.slots is None else pair + mine(cast.members, count)[carried.slots]
            overlap = np.bincount(pair.ravel(), minlength=regions * count).reshape(regions, count)
        self._settled = _Settled(slots, pieces)
        rest = 1 - maps.sum(0)
        return overlap, Totals([int(area) for area in (maps > 0.5).sum((1, 2))], int((rest > 0.5).sum()))

    def name(self, owners: Maybe) -> np.ndarray:
        """As of a Weighing."""
        assert self._settled is not None
        settled, self._settled = self._settled, None
        if owners is not None:
            there = settled.pieces > 0
            settled.slots[there] = owners[settled.pieces[there]]
        return settled.slots

    def areas(self, slots: np.ndarray) -> np.ndarray:
        """As of a Weighing."""
        return id_areas(slots, self.tracker.slots)

    def blocks(self, slots: np.ndarray, chosen: Sequence[int], grid: tuple[int, int]) -> tuple[Tensor, Sequence[float]]:
        """As of a Weighing."""
        masks = [(slots == slot).astype(np.float32) for slot in chosen]
        covered = [cv2.resize(mask, grid[::-1], interpolation=cv2.INTER_AREA) for mask in masks]
        sure = np.clip(2 * np.stack(covered).reshape(len(covered), -1) - 1, 0, None)
        counts = sure.sum(1, keepdims=True)
        return torch.from_numpy(sure / np.maximum(counts, 1)), counts[:, 0].tolist()


def agreed(
    rest: np.ndarray, odds: Sequence[np.ndarray], gates: Sequence[Maybe], found: Segmentation, cast: Cast
) -> np.ndarray:
    """Shares of the classes from their log-likelihoods and the background's; drawn to the finest regions and to the
    colours around, but for FOUND while it may be anything: what moves a little would fade. Borders are smoothed last,
    so what a gate lets through reaches a few px beyond it."""
    top = functools.reduce(np.maximum, odds, rest)
    parts = [cv2.exp(value - top) for value in odds]  # OpenCV's takes a quarter of NumPy's time
    total = cv2.exp(rest - top)
    for part in parts:
        total += part
    ids = found.finest.numpy().astype(np.intp)
    areas = np.bincount(ids.ravel(), minlength=found.finest_regions)
    guided, shares = None, []
    for slot, part, gate in zip(cast.members, parts, gates, strict=True):
        share = np.divide(part, total, out=part)
        if slot != FOUND and gate is not None:
            share *= gate
        if slot == FOUND:
            drawn_to_bodies_(share, ids, areas, found.tree)
        else:
            drawn_to_regions_(share, ids, areas)
        if slot != FOUND or gate is not None:
            guided = guided or GuidedFilter(found.rgb.numpy(), GUIDED_PX * min(ids.shape) / 240)
            colored = drawn_to_colors(share, guided)
            if gate is None:
                share = colored
            elif slot == FOUND:
                np.copyto(share, colored, where=gate > 0)
            else:
                share = np.multiply(colored, gate > 0, out=colored)
        shares.append(share)
    together = np.stack(shares)
    if len(together) > 1:
        together /= np.maximum(1, together.sum(0))
    smooth_borders_(together, found.rgb.numpy())
    return together


def seen_moving(motion: Motion) -> np.ndarray:
    """Log-odds that a pixel is seen moving by itself, [h, w], of a motion on the host whose own is known."""
    return moves_by_itself(motion.own) if motion.moving is None else motion.moving


def moving_of(motion: Motion) -> np.ndarray:
    """Likewise, that it moves: what stands out does."""
    return surely(seen_moving(motion), motion.out)


def like_named(look: Maybe, shape: tuple[int, int], cast: Cast) -> np.ndarray:
    """[h, w] bool, where some named object is likelier by its look than the background and than FOUND."""
    known = [k + 1 for k, knows in enumerate(cast.knows) if knows]
    named = [k for k in known if cast.members[k - 1] != FOUND]
    if look is None or not named:
        return np.zeros(shape, bool)
    return look[named].max(0) > look[[0, *(k for k in known if k not in named)]].max(0)


def taken(shares: Maybe, cast: Cast) -> np.ndarray | bool:
    """Where named objects were carried to rather than what was found: what moves there is one of them."""
    if shares is None or not cast.named:
        return False
    return shares[cast.named].sum(0) > np.maximum(0.3, shares[cast.members.index(FOUND)])


def mine(members: Sequence[int], count: int) -> np.ndarray:
    """[count] slots of tracks that FOUND's pieces may be, the background for those of named objects."""
    table = np.arange(count)
    table[[slot for slot in members if slot != FOUND]] = BACKGROUND
    return table


def _nobody_found(slots: Maybe, cast: Cast) -> bool:
    """Whether nothing that moves by itself is followed (or no more), though the shot had the time to show it."""
    if slots is None or cast.eager:
        return False
    return set(np.flatnonzero(np.bincount(slots.ravel()))) <= {BACKGROUND, *cast.members}


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """FOUND's pieces, [h, w] int32 from 1 on, and one more than there are; small ones are 0."""
    labels, is_small = small_parts(mask.view(np.uint8), SMALLEST_FOUND * mask.size, 8)
    large = ~is_small
    large[0] = False
    table = np.where(large, large.cumsum(), 0).astype(np.int32)
    return table.take(labels), int(large.sum()) + 1
