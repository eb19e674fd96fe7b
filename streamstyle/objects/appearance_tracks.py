"""Follows objects by what they look like, how they move and where edges are; finds what moves by itself unasked.

::

    probabilities of the frame before ─► carried by optical flow ─┐
    net's features ─► AppearanceModel.score ──────────────────────┼─► added up as log-odds ─► drawn to the regions
    flow beside the camera's motion ──────────────────────────────┘            │
         ▲                                                                     ▼  and to the colours around
         └────────────── learned again ◄── probabilities, one map an object; the likeliest is the pixel's slot

One class of the model is each named object's; one more, FOUND, is all that moves by itself and has no name. Its pieces
become tracks of their own by overlap; one that comes back has its number again, see reentry.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.look import ObjectStyle
from streamstyle.objects.appearance import AppearanceModel
from streamstyle.objects.between import Followed
from streamstyle.objects.device_weighing import DeviceWeighing, moving_odds, weighs
from streamstyle.objects.evidence import near, own_motion, own_motions
from streamstyle.objects.host_weighing import HostWeighing
from streamstyle.objects.object_tracks import Moment, ObjectTracks, was_taken
from streamstyle.objects.places import may_lie_anywhere, piece_at, small_point
from streamstyle.objects.plain_ground import kept_whole_, note_standing, stands_out, theirs, with_what_stands_out
from streamstyle.objects.reentry import Reentry
from streamstyle.objects.repeats import Repeats
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.slow_motion import SlowMotion, usual_motions_px
from streamstyle.objects.tracker import BACKGROUND, Tracker
from streamstyle.objects.trust import LOOK_DOUBT, OPEN_EVERY, Doubt, Trust, trusts
from streamstyle.objects.weighing import FOUND, Cast, Motion, Totals, Weighing, lost_below_px
from streamstyle.stages.optical_flow import OpticalFlow, careful_px
from streamstyle.stages.region_stats import id_areas

LEARNABLE_SHARE = 1.5e-4
"""Share of the frame below which a class shows too little of itself to learn from: 15 px of 427x240."""
NEARLY_ALL = 0.8
"""Share of an object that another may not be given without a word."""
EAGER_FRAMES = 4
"""Frames of a shot that are all looked at until FOUND is known."""


class AppearanceTracks(ObjectTracks):
    """Named objects, and what moves by itself, followed by a model of how they look.

    State between frames: the tracker's table, a probability map an object, how far these may be trusted where they were
    carried, what moves slowly, the model, the last small luma picture, the looks of what was found and of some that are
    gone; and the same of the shots that are remembered.

    Args:
        segmenter: must give features.
        objects: what the person named.
        every: look in every Nth frame.
        find: whether to find what is not named.
        doubts: whether to look in others, too, where what was carried is doubted; on the host alone.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        objects: tuple[ObjectStyle, ...],
        every: int,
        *,
        find: bool,
        doubts: bool = False,
    ) -> None:
        super().__init__(segmenter, Tracker("components"), objects, every)
        self._flow = OpticalFlow(careful_px=careful_px(every))
        self._find, self._on_device = find, weighs(segmenter.device)
        self._shares_on = segmenter.device if self._on_device else torch.device("cpu")
        self._weighing: Weighing = HostWeighing(self.tracker)
        if self._on_device:
            self._weighing = DeviceWeighing(self.tracker, segmenter.device)
        self._doubts, self._doubt = doubts and not self._on_device, Doubt()
        if self._doubts:
            self._sought_every = min(every, OPEN_EVERY)
        self._trust, self._repeats = Trust(self._shares_on), Repeats(self._shares_on)
        self._slow = SlowMotion(segmenter.device if self._on_device else None)
        self._model = AppearanceModel(segmenter.device)
        self._reentry = Reentry(segmenter.device)
        self._parts: dict[str, Any] = {"trust": self._trust, "doubt": self._doubt, "repeats": self._repeats}
        self._parts |= {"slow": self._slow, "model": self._model, "reentry": self._reentry}
        self._foreseen: dict[str, Any] | None = None
        self._refused: np.ndarray | float = 0.0
        self._out: np.ndarray | None = None
        self._gave = False
        self._begin()

    def _begin(self) -> None:
        """A new shot: nobody is known."""
        self._members = [FOUND] if self._find else []
        self._shares: Tensor | None = None
        self._eager = EAGER_FRAMES if self._find else 0
        for part in self._parts.values():
            part.reset()
        for _ in self._members:
            self._model.add()

    def _turn(self, shot: int) -> None:
        super()._turn(shot)
        self._slow.drop()  # its anchor is of long ago

    def foresees(self, shot: int) -> bool:
        """Whether a frame of a shot, were it the next, would begin it, and foresee before it would be of use."""
        return self._find and shot != self._shot and shot not in self._left

    def foresee(self, later: AppearanceTracks) -> None:
        """Know in the next frame, which begins a shot, what later has learned of that and the frames that follow it."""
        self._foreseen = later._model.state_dict()

    def is_due(self, number: int) -> bool:
        """As ObjectTracks says; where looks go by doubt that tells of none."""
        return not self._doubts and super().is_due(number)

    def wants(self, index: int, shot: int, time_s: float) -> bool:
        """As ObjectTracks says; and the first frames of a shot while FOUND is not known.

        Where looks go by doubt, also the frame after one in which there is enough of it; and one of every Nth, but not
        just after another that was looked at.
        """
        doubtful = self._doubt.so_far >= LOOK_DOUBT
        is_turn = self._doubts and self._trust.since > 0 and super().is_due(index)
        return super().wants(index, shot, time_s) or self._eager > 0 or doubtful or is_turn

    @property
    def motions_told(self) -> int | None:
        """As ObjectTracks says."""
        return 1 if self._on_device else None

    def motions(self, lumas: Tensor, part: slice = slice(None)) -> tuple[Tensor, ...]:
        """As ObjectTracks says; and the motion beside the camera's, [M, 2, h, w] float32 px.

        Where the device weighs: how far anything in each frame moved along an axis, and how far most of it did, [M, 2]
        float32 px, which alone the host is told; the flows; that motion; the log-odds that each pixel moves by itself,
        [M, h, w] float32; and, where somebody asks, trust in the flows, likewise.
        """
        motion = super().motions(lumas, part)
        if not motion:
            return ()
        own = own_motions(motion[0])
        if not self._on_device:
            return *motion, own
        more = [moving_odds(own)]
        if self._asks_trust:
            more.append(trusts(lumas[part], self._flow.before(lumas, part), motion[0]))
        farthest = motion[0].abs().flatten(1).amax(1)
        return torch.stack([farthest, usual_motions_px(motion[0])], 1), *motion, own, *more

    def _motion_of(self, motion: Sequence[Any]) -> tuple[Motion, bool]:
        if not self._on_device:
            return super()._motion_of(motion)
        (farthest_px, usual_px), *parts = motion
        return Motion(*parts, farthest_px=float(farthest_px), usual_px=float(usual_px)), not farthest_px

    def _advance(self, moment: Moment) -> np.ndarray:
        motion, found, index = moment.motion, moment.found, moment.index
        pending, as_seen = len(self._pending), found is not None
        if moment.still and self._slots is not None and not self._trust.since and self._nothing_said(moment):
            # The frame before once more, and that was looked at: all stays as it is.
            self._eager = max(0, self._eager - 1)
            found, as_seen = None, True
        if moment.starts:
            self._start(moment)
        (before, luma), passed = moment.lumas, self._trust.since + 1
        repeats, before = self._repeats.step(motion), before if self._asks_trust else None
        steady, trust = self._trust.step(motion, before, luma, looked_at=as_seen, repeats=repeats)
        motion, self._gave = replace(motion, steady=steady, trust=trust), False
        if repeats and found is not None:
            motion = self._repeats.as_before(motion)
        if found is not None and motion.own is None and motion.flow is not None:
            motion = replace(motion, own=own_motion(motion.flow))
        if FOUND in self._members:
            copies, eager = self._repeats.copies, self._eager > 0
            motion = self._slow.step(motion, moment.lumas, looked_at=found is not None, copies=copies, eager=eager)
        self._out = out = self._standing(found)
        if out is not None:
            motion = with_what_stands_out(motion, out)
        moment = replace(moment, motion=motion)  # for whoever looks at it after us
        size = found.ids.shape if found is not None else () if self._slots is None else self._slots.shape
        carried = self._weighing.carry(self._shares, self._slots, motion, self._cast(), (size[0], size[1]))
        if found is None:
            self._shares = self._weighing.carried_shares(carried)
            slots = self._weighing.carried_slots(carried)
            self.tracker.present(id_areas(slots, self.tracker.slots), index)
            self._take_doubt(slots, motion, index)
            self.followed = self._followed(slots, motion, moment, repeats=repeats, said=False)
            return slots
        self._doubt.reset()
        self._shares = self._weighing.seen(found, carried, motion, self._look(found), self._cast())
        if out is not None:
            kept_whole_(self._shares, self._members.index(FOUND), out)
        self._take_places(moment, found)
        overlap, totals = self._weighing.settle(self._shares, carried, self._cast())
        self._learn(totals, passed)
        owners = None
        if FOUND in self._members:  # a piece takes the track it overlaps most
            owners = self.tracker.update(overlap, index, sure=self._eager > 0)[:, 0]
        slots = self._weighing.name(owners)
        self._eager -= self._eager > 0
        areas = self._weighing.areas(slots)
        if self._find:
            blocks = functools.partial(self._weighing.blocks, slots, grid=self._grid)
            self._reentry.step(self.tracker, areas, blocks, self._described)
        self.tracker.observe(areas, index, hidden={slot for slot in self._members if slot != FOUND})
        if out is not None:
            note_standing(self.tracker.tracks, slots, out)
        said = self._gave or len(self._pending) < pending
        self.followed = self._followed(slots, motion, moment, repeats=repeats, said=said)
        return slots

    def _take_doubt(self, slots: np.ndarray, motion: Motion, index: int) -> None:
        """Take in a frame that was carried; or that shows what was looked at once more."""
        if not self._trust.since:
            self._doubt.reset()
        elif self._doubts:
            tracks = self.tracker.tracks.values()
            gone = any(track.name and track.last_frame < index and not was_taken(track) for track in tracks)
            new = any(not track.name and not track.confirmed for track in tracks)
            self._doubt.step(slots, motion, self._trust.since, open_question=gone or new)

    def _standing(self, found: Segmentation | None) -> np.ndarray | None:
        """The pieces of stands_out that nobody with a name has."""
        out = stands_out(found) if found is not None and FOUND in self._members else None
        if out is None or self._slots is None or self._slots.shape != out.shape:
            return out
        named = np.isin(self._slots, [slot for slot in self._members if slot != FOUND])
        out = np.where(theirs(out, named), 0, out)
        return out if out.any() else None

    @property
    def _asks_trust(self) -> bool:
        """Whether somebody has a name, or will have, or frames are carried."""
        return self.every > 1 or bool(self._objects)

    def _followed(self, slots: np.ndarray, motion: Motion, moment: Moment, *, repeats: bool, said: bool) -> Followed:
        ids = {slot: track.track_id for slot, track in self.tracker.tracks.items()}
        who = (tuple(self._members), ids)
        return Followed(slots, self._shares, *who, motion, self._trust.since, repeats, moment.shot, said)

    def _cast(self) -> Cast:
        knows = tuple(self._model.knows(k + 1) for k in range(len(self._members)))
        return Cast(tuple(self._members), knows, self._eager > 0)

    def _nothing_said(self, moment: Moment) -> bool:
        """Whether nobody says anything of a frame."""
        return all(thing.at_s > moment.time_s + 1e-6 for thing in self._pending)

    def _start(self, moment: Moment) -> None:
        """A shot begins: nobody is known, but for what is foreseen."""
        self.tracker.start(1, moment.index)
        self._begin()
        if self._foreseen is not None:
            self._model.load_state_dict(self._foreseen)
            self._foreseen = None

    def _look(self, found: Segmentation) -> Tensor | None:
        """The model's probabilities, [K + 1, h, w]; None before it has learned."""
        self._described, self._grid = self._model.describe(found.features, found.picture)
        if not self._model.known:
            return None
        return self._model.score_map(self._described, self._grid, found.features, found.picture)

    # -- who is who ---------------------------------------------------------------------------------------------

    def _take_places(self, moment: Moment, found: Segmentation) -> None:
        for thing in self._due(moment.time_s):
            ids, point = found.ids.numpy(), None
            if thing.remove and thing.point is not None:
                point = small_point(thing, thing.point, moment.size, ids.shape)
            place: np.ndarray | None
            if point is not None and ids[point[::-1]] == 0:
                place = self._piece_of(thing.name, ids == 0, point)
            else:
                place = self._place(thing, found, moment.size)
            if place is None and not may_lie_anywhere(thing, self._objects):
                place = self._place(thing, found, moment.size)  # which refuses it
            if place is None:
                self.untaken.append((thing.name, thing.at_s))
            else:
                self._say(thing, place, moment.index)

    def _piece_of(self, name: str, within: np.ndarray, point: tuple[int, int]) -> np.ndarray | None:
        """The piece [h, w] bool at a pixel (x, y) of what a named object has within a mask; None where it has none."""
        slot = self._there().get(name)
        if slot is None:
            return None
        assert self._shares is not None
        its = (self._shares[self._members.index(slot)] > 0.5).cpu().numpy()  # synchronises
        return piece_at(its & within, *point)

    def _say(self, thing: ObjectStyle, place: np.ndarray, index: int) -> None:
        """A person said that a place [h, w] bool of this frame is their object's, or is not."""
        there = self._there()
        if not thing.remove:
            others = {name: slot for name, slot in there.items() if name and name != thing.name}
            self.replaced += [
                (thing.name, name, thing.at_s) for name in others if self._is_nearly_all(place, others[name])
            ]
        if not thing.remove or thing.name in there:
            self._give(thing.name, place, index, remove=thing.remove)

    def _is_nearly_all(self, place: np.ndarray, slot: int) -> bool:
        """Whether a place [h, w] bool has nearly all that an object has; synchronises."""
        assert self._shares is not None
        its = (self._shares[self._members.index(slot)] > 0.5).cpu().numpy()
        return bool((its & place).sum() > NEARLY_ALL * its.sum())

    def _there(self) -> dict[str | None, int]:
        """The slots of this shot's named objects."""
        return {self.tracker.tracks[slot].name: slot for slot in self._members if slot != FOUND}

    def _give(self, name: str, place: np.ndarray, index: int, *, remove: bool = False) -> None:
        """A place [h, w] bool of this frame is a named object's, or no longer."""
        assert self._shares is not None
        self._gave = True
        slot = self.tracker.claim(name, index)
        if slot not in self._members:
            self._members.append(slot)
            self._model.add()
            self._shares = torch.cat([self._shares, self._shares.new_zeros(1, *place.shape)])
        k, there = self._members.index(slot), torch.from_numpy(place).to(self._shares.device)
        if remove:
            its = self._shares[k] > 0.5
            left_px = (its & ~there).sum()
            if (its & there).any() and left_px < LEARNABLE_SHARE * place.size:  # synchronises
                self._shares[k].zero_()  # from specks that are left all of it would be found again
            self._shares[k].masked_fill_(there, 0)
            self._refused = np.maximum(self._refused, place)
        else:
            self._shares.masked_fill_(there, 0)
            self._shares[k].masked_fill_(there, 1)
            if FOUND in self._members:
                self._model.renew(self._members.index(FOUND) + 1)  # it took the object for a part of itself
            if self._out is not None:
                rest = torch.from_numpy(theirs(self._out, place)).to(self._shares.device)
                self._shares[self._members.index(FOUND)].masked_fill_(rest, 0)
        self._model.renew(BACKGROUND)  # or it did; or it must know what has come back to it
        self._model.renew(k + 1)
        self.tracker.forget_area(slot)

    def _learn(self, totals: Totals, passed: int) -> None:
        """Have the model take in the frame, of the shares as they are; passed: frames since it did so."""
        assert self._shares is not None
        rest = torch.ones(1, *self._shares.shape[1:], device=self._shares.device)
        if len(self._members):
            rest = 1 - functools.reduce(torch.add, self._shares)[None]
        shares = torch.cat([rest, self._shares])[None].to(self._described.device)
        small = F.interpolate(shares, size=self._grid, mode="area")[0].flatten(1)
        fewest = LEARNABLE_SHARE * rest.numel()
        pause = [k + 1 for k, slot in enumerate(self._members) if self._shows_little(slot, k, totals, fewest)]
        if totals.rest_px < fewest:
            pause.append(BACKGROUND)
        loose = [k + 1 for k, slot in enumerate(self._members) if slot == FOUND]
        if loose and len(self._members) == 1:
            loose.append(BACKGROUND)
        around = None
        if not self._model.knows(BACKGROUND) and BACKGROUND not in loose:
            followed = (self._shares.sum(0) > 0.5).cpu().numpy()
            beside = np.maximum(near(followed), self._refused)  # and what was refused, wherever it is
            reach = torch.from_numpy(beside.astype(np.float32))[None, None].to(small.device)
            around = F.interpolate(reach, size=self._grid, mode="area").flatten()
        of, grid = self._described, self._grid
        self._model.learn(of, small, pause=pause, loose=loose, near=around, passed=passed, grid=grid)
        self._refused = 0.0

    def _shows_little(self, slot: int, k: int, totals: Totals, fewest_px: float) -> bool:
        """Whether a class is hidden, or too small to learn from."""
        lost_px = 0.0 if slot == FOUND else lost_below_px(self.tracker.tracks[slot])
        return totals.areas_px[k] < max(lost_px, fewest_px)

    # -- state --------------------------------------------------------------------------------------------------

    def _shot_state(self) -> dict[str, Any]:
        """What later frames of this shot depend on, beside the tracker's part; see _take_up."""
        shares = None if self._shares is None else self._shares.cpu().numpy()
        own: dict[str, Any] = {"members": list(self._members), "shares": shares, "eager": self._eager}
        return super()._shot_state() | own | {name: part.state_dict() for name, part in self._parts.items()}

    def _take_up(self, state: dict[str, Any]) -> None:
        """Go on in the shot whose _shot_state this is."""
        super()._take_up(state)
        self._members, self._eager, shares = list(state["members"]), state["eager"], state["shares"]
        self._shares = None if shares is None else torch.from_numpy(shares).to(self._shares_on)
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
