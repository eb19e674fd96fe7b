"""Follows objects by what they look like, how they move and where edges are; finds what moves by itself unasked.

::

    probabilities of the frame before ─► carried by optical flow ─┐
    HED's features ─► AppearanceModel.score ──────────────────────┼─► added up as log-odds ─► drawn to the regions
    flow beside the camera's motion ──────────────────────────────┘            │
         ▲                                                                     ▼  and to the colours around
         └────────────── learned again ◄── probabilities, one map an object; the likeliest is the pixel's slot

One class of the model is each named object's; one more, FOUND, is all that moves by itself and has no name. Its pieces
become tracks of their own by overlap; one that comes back has its number again, see reentry.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.look import ObjectStyle
from streamstyle.objects.appearance import AppearanceModel
from streamstyle.objects.area_filter import clear_specks_
from streamstyle.objects.evidence import (
    MOVED_SHARE,
    MOVING_SHARE,
    NOT_FOUND,
    by_carried,
    by_look,
    found_odds,
    held_against,
    moves_alike,
    moves_by_itself,
    moving_shares,
    near,
    own_motion,
    own_motions,
    region_means,
    with_newcomers,
)
from streamstyle.objects.guided_filter import GuidedFilter, drawn_to_colors
from streamstyle.objects.object_tracks import Moment, ObjectTracks
from streamstyle.objects.reentry import Reentry
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.tracker import BACKGROUND, Tracker
from streamstyle.stages.optical_flow import OpticalFlow, carry, carry_labels

Maybe = np.ndarray | None
FOUND = -1
"""In the list of slots that classes have: the class whose pieces are tracks."""
SNAP = 0.8
"""Share of a pixel's probability that is its region's mean: of 0.6 and 0.8 on eight DAVIS sequences the latter."""
GUIDED_PX = 12
"""Radius (of 240 lines) in which a share follows the colours. On six DAVIS sequences J is .708 without, and before
FIRMNESS .725 at 6, .730 at 12, .724 at 16: what hides and what splashes want a large one, grey cars on grey roads a
small one."""
SMALLEST_FOUND = 0.003
"""Share of the frame below which a piece of FOUND is no object."""
LOST_SHARE = 0.1
"""An object with less than this share of its usual area is looked for everywhere, by its look and motion, and not
learned."""
LOST_PRIOR, LOST_MOTION_WEIGHT = 0.3, 1.0
"""What is looked for everywhere is rather what moves by itself: the dog that was hidden, not the post it passes; its J
is .575 without, .629 with."""
LEARNABLE_SHARE = 1.5e-4
"""Share of the frame below which a class shows too little of itself to learn from: 15 px of 427x240."""
EAGER_FRAMES = 4
"""Frames of a shot that are all looked at until FOUND is known."""
MUST_MOVE_LOOKS = 6
"""Analysed frames in which a found object must have moved, or else it was none."""


class AppearanceTracks(ObjectTracks):
    """Named objects, and what moves by itself, followed by a model of how they look.

    State between frames: the tracker's table, a probability map an object, the model, the last small luma picture,
    the looks of what was found and of some that are gone; and the same of the shots that are remembered.

    Args:
        segmenter: must give features.
        objects: what the person named.
        every: look in every Nth frame.
        find: whether to find what is not named.
    """

    def __init__(self, segmenter: Segmenter, objects: tuple[ObjectStyle, ...], every: int, *, find: bool) -> None:
        super().__init__(segmenter, Tracker("components"), objects, every)
        self._flow = OpticalFlow(careful=True)
        self._find = find
        self._model = AppearanceModel(segmenter.device)
        self._reentry = Reentry(segmenter.device)
        self._foreseen: dict[str, Any] | None = None
        self._refused: np.ndarray | float = 0.0
        self._begin()

    def _begin(self) -> None:
        """A new shot: nobody is known."""
        self._members = [FOUND] if self._find else []
        self._shares: Maybe = None
        self._eager = EAGER_FRAMES if self._find else 0
        self._model.reset()
        self._reentry.reset()
        for _ in self._members:
            self._model.add()

    def foresees(self, shot: int) -> bool:
        """Whether a frame of a shot, were it the next, would begin it, and foresee before it would be of use."""
        return self._find and shot != self._shot and shot not in self._left

    def foresee(self, later: AppearanceTracks) -> None:
        """Know in the next frame, which begins a shot, what later has learned of that and the frames that follow it."""
        self._foreseen = later._model.state_dict()

    def plan(self, index: int, shots: list[int], times_s: list[float]) -> list[bool]:
        """As ObjectTracks says; and the first frames of a shot while FOUND is not known."""
        look = super().plan(index, shots, times_s)
        eager: dict[int | None, int] = {shot: known["eager"] for shot, known in self._left.items()}
        eager[self._shot] = self._eager
        for i, shot in enumerate(shots):
            more = eager.get(shot, self._eager_at(times_s[i]))
            look[i] |= more > 0
            eager[shot] = more - (more > 0)
        return look

    def _eager_at(self, time_s: float) -> int:
        """How many frames are all looked at of a shot that begins then, and is not one to which the film comes back."""
        return EAGER_FRAMES if self._find else 0

    def motions(self, lumas: Tensor, part: slice = slice(None)) -> tuple[Tensor, ...]:
        """As ObjectTracks says; and the motion beside the camera's, [M, 2, h, w] float32 px."""
        motion = super().motions(lumas, part)
        return (*motion, own_motions(motion[0])) if motion else ()

    def _advance(self, moment: Moment) -> np.ndarray:
        flow, found, index = moment.flow, moment.found, moment.index
        if self._stands(moment):
            found, self._eager = None, max(0, self._eager - 1)
        if moment.starts:
            self._start(moment)
        carried = None
        if self._shares is not None:
            carried = np.stack([carry(share, flow) for share in self._shares]) if len(self._shares) else self._shares
        slots = None if self._slots is None else carry_labels(self._slots, flow)
        if found is None:
            assert slots is not None
            self._shares = carried
            self.tracker.present(slots, index)
            return slots
        if moment.own is None and flow is not None:
            moment = replace(moment, own=own_motion(flow))
        self._shares = self._seen(carried, moment.own, found, slots)
        self._take_places(moment, found)
        self._learn(found)
        slots = self._map(found, slots, index)
        self._eager -= self._eager > 0
        if self._find:
            self._reentry.step(self.tracker, slots, self._described, self._grid)
        areas = np.bincount(slots.ravel(), minlength=self.tracker.slots)
        self.tracker.observe(areas, index, hidden={slot for slot in self._members if slot != FOUND})
        return slots

    def _stands(self, moment: Moment) -> bool:
        """Whether a frame is the one before once more: all stays as it is, unless somebody says something of it."""
        still = self._slots is not None and moment.flow is not None and not moment.flow.any()
        return still and all(thing.at_s > moment.time_s + 1e-6 for thing in self._pending)

    def _start(self, moment: Moment) -> None:
        """A shot begins: nobody is known, but for what is foreseen."""
        self.tracker.start(1, moment.index)
        self._begin()
        if self._foreseen is not None:
            self._model.load_state_dict(self._foreseen)
            self._foreseen = None

    # -- a frame that is looked at ------------------------------------------------------------------------------

    def _seen(self, carried: Maybe, own: Maybe, found: Segmentation, slots: Maybe) -> np.ndarray:
        """Each class's share of each pixel, [K, h, w] float32."""
        shape = (found.ids.shape[0], found.ids.shape[1])
        look = self._look(found, shape)
        rest = np.zeros(shape, np.float32) if look is None else by_look(look[0])
        if carried is not None:
            rest = rest + by_carried(1 - carried.sum(0))
        odds, gates = list[np.ndarray](), list[Maybe]()
        for k, slot in enumerate(self._members):
            before = None if carried is None else carried[k]
            # What nobody has seen yet may look like anything.
            seen = look[k + 1] if look is not None and self._model.knows(k + 1) else None
            if slot == FOUND:
                weighed, gate = self._found_odds(before, seen, own, slots, rest, self._like_named(look, shape))
                weighed = np.where(self._taken(carried), NOT_FOUND, weighed)
            else:
                assert before is not None
                weighed, gate = self._named_odds(slot, before, seen, own)
            odds.append(weighed)
            gates.append(gate)
        if not odds:
            return np.zeros((0, *shape), np.float32)
        return self._agreed(rest, odds, gates, found)

    def _agreed(self, rest: np.ndarray, odds: list[np.ndarray], gates: list[Maybe], found: Segmentation) -> np.ndarray:
        """Shares of the classes from their log-likelihoods and the background's; drawn to the finest regions and to the
        colours around, but for FOUND while it may be anything: what moves a little would fade."""
        top = np.maximum.reduce([rest, *odds])
        parts = [np.exp(value - top) for value in odds]
        total = np.exp(rest - top) + sum(parts)
        ids = found.finest.numpy()
        areas = np.bincount(ids.ravel(), minlength=found.finest_regions)
        guided, shares = None, []
        for slot, part, gate in zip(self._members, parts, gates, strict=True):
            share = part / total
            if slot != FOUND and gate is not None:
                share = share * gate
            share = (1 - SNAP) * share + SNAP * region_means(share, ids, areas, found.tree if slot == FOUND else None)
            if slot != FOUND or gate is not None:
                guided = guided or GuidedFilter(found.rgb.numpy(), GUIDED_PX * min(ids.shape) / 240)
                elsewhere = share if slot == FOUND else 0
                colored = drawn_to_colors(share, guided)
                share = colored if gate is None else np.where(gate > 0, colored, elsewhere)
            shares.append(share)
        together = np.stack(shares)
        return together / np.maximum(1, together.sum(0)) if len(together) > 1 else together

    def _named_odds(self, slot: int, before: np.ndarray, seen: Maybe, own: Maybe) -> tuple[np.ndarray, Maybe]:
        """Log-likelihood of a named object; and where it may be, None for everywhere."""
        lost = self._lost(slot, before)
        prior = np.full_like(before, LOST_PRIOR) if lost else before
        odds = by_carried(prior)
        if seen is not None:
            odds = odds + by_look(seen)
        if lost:
            return (odds if own is None else odds + LOST_MOTION_WEIGHT * moves_by_itself(own)), None
        core = before > 0.5
        gate = near(core)
        alike = None if own is None else moves_alike(own, core, (gate > 0) & ~core)
        return (odds if alike is None else odds + alike), gate

    def _found_odds(
        self, before: Maybe, seen: Maybe, own: Maybe, slots: Maybe, rest: np.ndarray, named: np.ndarray
    ) -> tuple[np.ndarray, Maybe]:
        """As _named_odds, of FOUND; named: where somebody new would be taken for one whom a person named."""
        motion = None if own is None else self._motion_of_found(own, slots)
        gate = None if before is None or self._eager else near(before > 0.5)
        if self._nobody_found(slots):
            # Who begins to move later is as good as who moved from the first, and better if it looks like who has left.
            return np.where(named, NOT_FOUND, found_odds(None, None, motion, rest.shape)), None
        odds = found_odds(before, seen, motion, rest.shape)
        if self._eager or motion is None or slots is None:
            return odds, gate
        far = near(slots != BACKGROUND) == 0
        return np.where(far & named, NOT_FOUND, with_newcomers(odds, rest, motion, far)), gate

    def _motion_of_found(self, own: np.ndarray, slots: Maybe) -> np.ndarray:
        """Log-odds that a pixel moves by itself; firm where an object moves, or never did, see STILL_TIMES."""
        odds = moves_by_itself(own)
        if slots is None:
            return odds
        shares, firm = moving_shares(odds, slots, self.tracker.slots), np.zeros(self.tracker.slots, bool)
        for slot, track in self.tracker.tracks.items():
            track.moved = max(track.moved, float(shares[slot]))
            never = track.moved < MOVED_SHARE and track.seen >= MUST_MOVE_LOOKS
            firm[slot] = shares[slot] >= MOVING_SHARE or never
        return held_against(odds, slots, firm)

    def _nobody_found(self, slots: Maybe) -> bool:
        """Whether nothing that moves by itself is followed (or no more), though the shot had the time to show it."""
        if slots is None or self._eager > 0:
            return False
        return set(np.flatnonzero(np.bincount(slots.ravel()))) <= {BACKGROUND, *self._members}

    def _taken(self, carried: Maybe) -> np.ndarray | bool:
        """Where named objects were carried to rather than what was found: what moves there is one of them."""
        named = [k for k, slot in enumerate(self._members) if slot != FOUND]
        if carried is None or not named:
            return False
        return carried[named].sum(0) > np.maximum(0.3, carried[self._members.index(FOUND)])

    def _look(self, found: Segmentation, shape: tuple[int, int]) -> Maybe:
        """The model's probabilities at full size, [K + 1, h, w]; None before it has learned."""
        self._described, self._grid = self._model.describe(found.features, found.rgb)
        if not self._model.known:
            return None
        scores = self._model.score_map(self._described, self._grid, found.features, found.rgb)
        return F.interpolate(scores[None], size=shape, mode="bilinear")[0].cpu().numpy()  # synchronises

    def _like_named(self, look: Maybe, shape: tuple[int, int]) -> np.ndarray:
        """[h, w] bool, where some named object is likelier by its look than the background and than FOUND."""
        known = [k + 1 for k in range(len(self._members)) if self._model.knows(k + 1)]
        named = [k for k in known if self._members[k - 1] != FOUND]
        if look is None or not named:
            return np.zeros(shape, bool)
        return look[named].max(0) > look[[0, *(k for k in known if k not in named)]].max(0)

    def _lost(self, slot: int, share: np.ndarray) -> bool:
        return float(share.sum()) < LOST_SHARE * self.tracker.tracks[slot].usual_area_px

    # -- who is who ---------------------------------------------------------------------------------------------

    def _take_places(self, moment: Moment, found: Segmentation) -> None:
        for thing in self._due(moment.time_s):
            self._say(thing, self._place(thing, found, moment.size), moment.index)

    def _say(self, thing: ObjectStyle, place: np.ndarray, index: int) -> None:
        """A person said that a place [h, w] bool of this frame is their object's, or is not."""
        if not thing.remove or thing.name in self._there():
            self._give(thing.name, place, index, remove=thing.remove)

    def _there(self) -> dict[str | None, int]:
        """The slots of this shot's named objects."""
        return {self.tracker.tracks[slot].name: slot for slot in self._members if slot != FOUND}

    def _give(self, name: str, place: np.ndarray, index: int, *, remove: bool = False) -> None:
        """A place [h, w] bool of this frame is a named object's, or no longer."""
        assert self._shares is not None
        slot = self.tracker.claim(name, index)
        if slot not in self._members:
            self._members.append(slot)
            self._model.add()
            self._shares = np.concatenate([self._shares, np.zeros((1, *place.shape), np.float32)])
        k = self._members.index(slot)
        if remove:
            self._shares[k][place] = 0
            self._refused = np.maximum(self._refused, place)
        else:
            self._shares[:, place] = 0
            self._shares[k][place] = 1
            if FOUND in self._members:
                self._model.renew(self._members.index(FOUND) + 1)  # it took the object for a part of itself
        self._model.renew(BACKGROUND)  # or it did; or it must know what has come back to it
        self._model.renew(k + 1)
        self.tracker.forget_area(slot)

    def _learn(self, found: Segmentation) -> None:
        assert self._shares is not None
        rest = 1 - self._shares.sum(0, keepdims=True)
        shares = torch.from_numpy(np.concatenate([rest, self._shares]))[None].to(self._described.device)
        small = F.interpolate(shares, size=self._grid, mode="area")[0].flatten(1)
        areas = (self._shares > 0.5).sum((1, 2))
        fewest = LEARNABLE_SHARE * rest.size
        hidden = [slot != FOUND and self._lost(slot, self._shares[k]) for k, slot in enumerate(self._members)]
        pause = [k + 1 for k, hides in enumerate(hidden) if hides or areas[k] < fewest]
        if (rest > 0.5).sum() < fewest:
            pause.append(BACKGROUND)
        loose = [k + 1 for k, slot in enumerate(self._members) if slot == FOUND]
        if loose and len(self._members) == 1:
            loose.append(BACKGROUND)
        around = None
        if not self._model.knows(BACKGROUND) and BACKGROUND not in loose:
            beside = np.maximum(near(self._shares.sum(0) > 0.5), self._refused)  # and what was refused, wherever it is
            reach = torch.from_numpy(beside.astype(np.float32))[None, None].to(small.device)
            around = F.interpolate(reach, size=self._grid, mode="area").flatten()
        self._model.learn(self._described, small, pause=pause, loose=loose, near=around)
        self._refused = 0.0

    def _map(self, found: Segmentation, carried: Maybe, index: int) -> np.ndarray:
        """[h, w] int32 slots: each pixel the likeliest of those that have at least half of it."""
        assert self._shares is not None
        if not len(self._members):
            return np.zeros(found.ids.shape, np.int32)
        slots = np.full(found.ids.shape, BACKGROUND, np.int32)
        for slot, share in zip(self._members, self._shares, strict=True):
            slots[share > 0.5] = slot  # at most one's is
        clear_specks_(slots, (slot for slot in self._members if slot != FOUND), BACKGROUND)
        if FOUND in self._members:
            mask = slots == FOUND
            slots[mask] = self._pieces(mask, carried, index)[mask]
        return slots

    def _pieces(self, mask: np.ndarray, carried: Maybe, index: int) -> np.ndarray:
        """Slots of FOUND's pieces: a piece takes the track it overlaps most; small ones are background."""
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_FOUND * mask.size
        large[0] = False
        table = np.where(large, large.cumsum(), 0).astype(np.int32)
        ids, regions = table[labels], int(large.sum()) + 1
        count = self.tracker.slots
        mine = np.arange(count)
        mine[[slot for slot in self._members if slot != FOUND]] = BACKGROUND
        pair = ids * count if carried is None else ids * count + mine[carried]
        overlap = np.bincount(pair.ravel(), minlength=regions * count).reshape(regions, count)
        return self.tracker.update(overlap, index, sure=self._eager > 0)[:, 0][ids]

    # -- state --------------------------------------------------------------------------------------------------

    def _shot_state(self) -> dict[str, Any]:
        """What later frames of this shot depend on, beside the tracker's part; see _take_up."""
        own = {"members": list(self._members), "shares": self._shares, "eager": self._eager}
        return super()._shot_state() | own | {"model": self._model.state_dict(), "reentry": self._reentry.state_dict()}

    def _take_up(self, state: dict[str, Any]) -> None:
        """Go on in the shot whose _shot_state this is."""
        super()._take_up(state)
        self._members, self._shares, self._eager = list(state["members"]), state["shares"], state["eager"]
        self._model.load_state_dict(state["model"])
        self._reentry.load_state_dict(state["reentry"])
