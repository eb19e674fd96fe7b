"""Weighs on the device, by stages.object_evidence; the host hears of totals, overlaps and the map of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.gpu.kernels import chosen
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import to_device
from streamstyle.objects import area_filter, bilateral_filter, bodies, evidence, guided_filter, host_weighing, weighing
from streamstyle.objects.host_weighing import HostCarried, HostWeighing
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, Cast, Motion, Totals, had_time_to_move, hidden_below_px, lost_below_px
from streamstyle.stages import evidence_terms, object_evidence
from streamstyle.stages.evidence_terms import Carried, Found, Rules, Who
from streamstyle.stages.region_hierarchy import FULL


def weighs(device: torch.device) -> bool:
    """Whether a device weighs by itself: it has the kernels."""
    return chosen("auto", torch.empty(0, device=device))


class DeviceWeighing:
    """A Weighing of tensors on a device. What has more classes than there are bits is weighed on the host.

    Args:
        tracker: whose tracks are followed; it is told how much of each moves.
        device: where shares are; features and regions are there too.
    """

    def __init__(self, tracker: Tracker, device: torch.device) -> None:
        self.tracker, self._device = tracker, device
        if device.type == "cuda" and device.index is None:  # tensors say which, and one of them is not equal to none
            self._device = torch.device("cuda", torch.cuda.current_device())
        self._host = HostWeighing(tracker)
        self._rules: dict[tuple[int, int], Rules] = {}
        self._who: Who | None = None
        self._map: tuple[Tensor, np.ndarray] | None = None
        self._named: tuple[np.ndarray, Tensor] | None = None
        self._left: dict[int, int] = {}
        self._overlap: np.ndarray = np.zeros((0, 0), np.int64)
        self._areas: np.ndarray = np.zeros(0, np.int64)

    def carry(
        self, shares: Tensor | None, slots: np.ndarray | None, motion: Motion, cast: Cast, size: tuple[int, int]
    ) -> Any:
        """As of a Weighing."""
        if not 0 < len(cast.members) <= evidence_terms.MOST_CLASSES:
            self._who = None
            return self._host.carry(None if shares is None else shares.cpu(), slots, _on_host(motion, cast), cast, size)
        self._who, slots_there = self._about(cast), None if slots is None else self._slots_there(slots)
        return object_evidence.carry(shares, slots_there, *self._there(motion), self._who, size)

    def carried_shares(self, carried: Any) -> Tensor | None:
        """As of a Weighing."""
        if not isinstance(carried, HostCarried):
            return carried.before
        shares = self._host.carried_shares(carried)
        return None if shares is None else shares.to(self._device)

    def carried_slots(self, carried: Any) -> np.ndarray:
        """As of a Weighing; synchronises."""
        if isinstance(carried, HostCarried):
            return self._host.carried_slots(carried)
        (slots,) = Download((carried.slots,)).wait()
        self._named = slots.numpy(), carried.slots
        return self._named[0]

    def seen(self, found: Segmentation, carried: Any, motion: Motion, look: Tensor | None, cast: Cast) -> Tensor:
        """As of a Weighing."""
        if isinstance(carried, HostCarried):
            return self._host.seen(found, carried, _on_host(motion, cast), look, cast).to(self._device)
        assert self._who is not None
        if motion.out is not None and carried.moving is not None:
            surely = carried.moving.clamp_min(evidence.SURELY_MOVING)
            moving = torch.where(self._here(motion.out), surely, carried.moving)
            carried = replace(carried, moving=moving)
        rgb, ids, into, at = found.there or (found.rgb, found.finest, *(found.tree or _no_tree(found.finest_regions)))
        regions = Found(*(self._here(part) for part in (ids, rgb, into, at)))
        rules, trust = self._rules_of((ids.shape[0], ids.shape[1])), None
        if motion.trust is not None and cast.named:
            trust = self._here(motion.trust)
        return object_evidence.weigh(carried, look, regions, self._who, rules, trust)

    def settle(self, shares: Tensor, carried: Any, cast: Cast) -> tuple[np.ndarray, Totals]:
        """As of a Weighing."""
        if isinstance(carried, HostCarried):
            return self._host.settle(shares.cpu(), carried, cast)
        carried, who = self._now(carried, cast)
        settled = object_evidence.settle(shares, carried, who, self._rules_of((shares.shape[1], shares.shape[2])))
        told = Download((settled.map, settled.overlap, settled.pieces, carried.tally)).wait()
        slots, overlap, pieces, tally = (part.numpy() for part in told)
        count = len(who.slots)
        by_class = tally[: count * evidence_terms.PER_CLASS].reshape(count, -1)
        self._note_moved(carried, tally, who)
        self._map, self._left = (settled.map, slots), {}
        for slot, left in zip(who.slots, by_class[:, evidence_terms.LEFT], strict=True):
            if slot != FOUND:
                self._left[slot] = int(left)
        areas, rest = by_class[:, evidence_terms.PIXELS], int(tally[count * evidence_terms.PER_CLASS])
        self._overlap = overlap[: int(pieces[0])]
        return self._overlap, Totals(areas.tolist(), rest)

    def _now(self, carried: Carried, cast: Cast) -> tuple[Carried, Who]:
        """What was carried, for those who are followed now: somebody may have been named meanwhile."""
        assert self._who is not None
        who = self._who
        if who.slots != cast.members or len(who.facts) != self.tracker.slots:
            self._note_moved(carried, carried.tally.cpu().numpy(), who)  # synchronises
            self._who = who = self._about(cast)
            carried = replace(carried, tally=object_evidence.empty_tally(who))
        return carried, who

    def _note_moved(self, carried: Carried, tally: np.ndarray, who: Who) -> None:
        """Tell the tracker how much of each track moves by itself."""
        told = evidence_terms.HAS_SLOTS | evidence_terms.HAS_MOTION
        if carried.known & told != told or who.found < 0:
            return
        by_slot = tally[len(who.slots) * evidence_terms.PER_CLASS + 1 :].reshape(-1, 2)
        for slot, track in self.tracker.tracks.items():
            if slot < len(by_slot):
                track.moved = max(track.moved, float(by_slot[slot, 1] / max(1, by_slot[slot, 0])))

    def name(self, owners: np.ndarray | None) -> np.ndarray:
        """As of a Weighing."""
        if self._who is None:
            self._named = None
            return self._host.name(owners)
        assert self._map is not None
        (there, here), self._map = self._map, None
        table = np.zeros(1, np.int32) if owners is None else owners.astype(np.int32)
        lowest, most = len(table) - 1, max(self._left, default=0)
        every = np.concatenate([table[:0:-1], np.arange(most + 1, dtype=np.int32)])  # of -lowest .. most
        slots = every[here + lowest]
        self._named = slots, object_evidence.name(there, to_device(torch.from_numpy(table), self._device))
        self._areas = np.zeros(self.tracker.slots, np.int64)
        for slot, left in self._left.items():
            self._areas[slot] = left
        np.add.at(self._areas, table[1:], self._overlap[1:].sum(1))
        return slots

    def areas(self, slots: np.ndarray) -> np.ndarray:
        """As of a Weighing; of the background nothing is counted."""
        return self._host.areas(slots) if self._who is None else self._areas

    def blocks(self, slots: np.ndarray, chosen: Sequence[int], grid: tuple[int, int]) -> tuple[Tensor, Sequence[float]]:
        """As of a Weighing."""
        there = self._slots_there(slots)
        masks = torch.stack([there == slot for slot in chosen]).float()
        sure = (2 * F.interpolate(masks[None], size=grid, mode="area")[0].flatten(1) - 1).clamp_min(0)
        counts = sure.sum(1, keepdim=True)
        return sure / counts.clamp_min(1), counts[:, 0].tolist()  # synchronises

    def _slots_there(self, slots: np.ndarray) -> Tensor:
        """A map of slots on the device, where it may be already."""
        if self._named is None or self._named[0] is not slots:
            self._named = slots, to_device(torch.from_numpy(slots), self._device)
        return self._named[1]

    def _here(self, part: Tensor | np.ndarray) -> Tensor:
        """On the device, and as kernels read it."""
        tensor = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
        return (tensor if tensor.device == self._device else to_device(tensor, self._device)).contiguous()

    def _there(self, motion: Motion) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Flow, own and moving on the device."""
        flow, own, moving = (None if x is None else self._here(x) for x in (motion.flow, motion.own, motion.moving))
        return flow, own, moving_odds(own[None])[0] if moving is None and own is not None else moving

    def _about(self, cast: Cast) -> Who:
        """What the kernels ask of who is followed; one small copy."""
        numbers, count, many = list[float](), len(cast.members), self.tracker.slots
        for slot, knows in zip(cast.members, cast.knows, strict=True):
            track = None if slot == FOUND else self.tracker.tracks[slot]
            hidden, lost = (0.0, 0.0) if track is None else (hidden_below_px(track), lost_below_px(track))
            numbers += [slot == FOUND, lost, knows, hidden]
        for slot in range(many):
            track = self.tracker.tracks.get(slot)
            numbers += [0.0, False] if track is None else [track.moved, had_time_to_move(track)]
            numbers.append(slot in cast.members)
        numbers += cast.members  # whole numbers, far below those that 32 bits cannot hold
        table = to_device(torch.tensor(numbers, dtype=torch.float32), self._device)
        classes, facts, members = table.split([4 * count, 3 * many, count])
        return Who(classes.view(-1, 4), facts.view(-1, 3), members, cast.members, cast.eager)

    def _rules_of(self, size: tuple[int, int]) -> Rules:
        if size not in self._rules:
            self._rules[size] = rules_of(size, self._device)
        return self._rules[size]


def rules_of(size: tuple[int, int], device: torch.device) -> Rules:
    """The rules of evidence, bodies, host_weighing and the filters, for maps of a size (h, w)."""
    scale, near_px = min(size) / 240, evidence.NEAR_PX * min(size) / 240
    weights = {
        "scale": scale,
        "carried_weight": evidence.CARRIED_WEIGHT,
        "found_carried_weight": evidence.FOUND_CARRIED_WEIGHT,
        "look_weight": evidence.LOOK_WEIGHT,
        "not_found": evidence.NOT_FOUND,
        "lost_prior": host_weighing.LOST_PRIOR,
        "lost_motion_weight": host_weighing.LOST_MOTION_WEIGHT,
        "separate_px": evidence.SEPARATE_PX,
        "separate_full_px": evidence.SEPARATE_FULL_PX,
        "reliable": evidence.RELIABLE[0],
        "reliable_full": evidence.RELIABLE[1],
        "alike_weight": evidence.ALIKE_WEIGHT,
        "steepness": evidence.STEEPNESS,
        "still_times": evidence.STILL_TIMES,
        "moving_share": evidence.MOVING_SHARE,
        "moved_share": evidence.MOVED_SHARE,
        "newcomer_odds": evidence.NEWCOMER_ODDS,
        "border": evidence.BORDER[0],
        "border_inside": evidence.BORDER[1],
        "border_share": evidence.BORDER_SHARE,
        "near_px": near_px,
        "tie": bodies.TIE,
        "snap": evidence.SNAP,
        "least_spread": evidence.LEAST_SPREAD,
        "firmness": guided_filter.FIRMNESS,
        "detail": guided_filter.DETAIL,
        "eps": guided_filter.EPS,
        "smooth_space_px": bilateral_filter.SPACE_PX,
        "smooth_color_distance": bilateral_filter.COLOR,
        "speck_share": area_filter.SPECK_SHARE,
        "speck_px": area_filter.speck_px(size),
    }
    heights = [int(level * FULL + 1e-6) for level in bodies.LEVELS]
    return Rules(
        weights=torch.tensor([weights[name] for name in evidence_terms.WEIGHTS], device=device),
        heights=torch.tensor(heights, dtype=torch.int32, device=device),
        reach_px=int(2 * near_px),
        stride_px=guided_filter.STRIDE,
        window_px=host_weighing.GUIDED_PX * scale,
        smooth_reach_px=bilateral_filter.REACH_PX,
        piece_px=weighing.SMALLEST_FOUND * size[0] * size[1],
    )


def moving_odds(own: Tensor, *, least_px: float = evidence.MOVING_PX) -> Tensor:
    """evidence.moves_by_itself of frames at once, [N, h, w] float32 of own [N, 2, h, w] px; no synchronisation."""
    speed = torch.linalg.vector_norm(own, dim=1)
    asked = speed[:, ::2, ::2].flatten(1).sort(1).values
    usual, top = (_percentile(asked, percent)[:, None, None] for percent in (50, evidence.STANDS_OUT_PERCENT))
    enough = evidence.MOVING_TIMES * usual
    stands_out = top > evidence.STANDS_OUT_TIMES * usual
    enough = torch.where(stands_out, torch.minimum(enough, evidence.STANDS_OUT_SHARE * top), enough)
    enough = enough.clamp_min(least_px * min(speed.shape[1:]) / 240)
    odds = evidence.MOTION_WEIGHT * evidence.MOVING_STEEPNESS * torch.log((speed + 0.02) / enough)
    return odds.clamp(-evidence.SURELY_MOVING, evidence.SURELY_MOVING)


def _percentile(rising: Tensor, percent: float) -> Tensor:
    """[N] of rows [N, P] that rise; between two of them as NumPy's."""
    at = percent / 100 * (rising.shape[1] - 1)
    below = int(at)
    return torch.lerp(rising[:, below], rising[:, min(below + 1, rising.shape[1] - 1)], at - below)


def _no_tree(regions: int) -> tuple[Tensor, Tensor]:
    """How regions join that never do."""
    into = torch.arange(regions, dtype=torch.int32)
    return into, torch.full_like(into, torch.iinfo(torch.int32).max)


def _on_host(motion: Motion, cast: Cast) -> Motion:
    """Motion for a host; none where nobody is followed, to whom it would matter."""
    if not cast.members:
        return Motion()

    def host(part: Any) -> Any:
        return part.cpu().numpy() if isinstance(part, Tensor) else part

    flow, own, moving, trust = (host(part) for part in (motion.flow, motion.own, motion.moving, motion.trust))
    return Motion(flow, own, moving, trust=trust, out=motion.out)
