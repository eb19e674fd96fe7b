"""What may be left out of finding and following objects, or done otherwise, to see what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.objects import (
    appearance,
    appearance_tracks,
    bodies,
    evidence,
    film_follower,
    guided_filter,
    host_weighing,
    tracker,
    trust,
    weighing,
)
from streamstyle.objects.appearance import AppearanceModel
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.between import Between
from streamstyle.objects.foresight import Foresight
from streamstyle.objects.reentry import Reentry
from streamstyle.objects.tracker import BACKGROUND, SNAP_SHARE, Tracker
from streamstyle.stages import optical_flow
from streamstyle.stages.optical_flow import DENSE_PX, SPARSE_PX, OpticalFlow, carry, occlusion


def coarse_map(
    model: AppearanceModel, x: Tensor, grid: tuple[int, int], features: Sequence[Tensor], rgb: Tensor
) -> Tensor:
    """AppearanceModel.score_map as it was, no finer than the descriptions: [K + 1, h', w']."""
    known, weights = model._solved()
    found = x.new_zeros(model.classes, len(x))
    found[known] = torch.softmax(appearance.SHARPNESS * (x @ weights), 1).T
    return found.unflatten(1, grid)


class MediumFlow(OpticalFlow):
    """Flow searched with the steps and rounds of OpenCV's own preset."""

    def __init__(self) -> None:
        super().__init__()
        self._dis = self._carrying = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


class CheckedFlow(OpticalFlow):
    """Flow searched forward as well: what comes into sight, where the two disagree, has no past."""

    latest: tuple[np.ndarray, np.ndarray] | None = None
    """The flow found last, and where it is of pixels [h, w] bool that the frame before does not show."""

    def step(self, luma: np.ndarray, *, to_carry: bool = False) -> np.ndarray | None:
        before = self.previous
        back = super().step(luma, to_carry=to_carry)
        if before is not None and back is not None:
            search = self._carrying if to_carry else self._dis
            there = search.calc(before, luma, None)  # type: ignore[call-overload]
            hidden = occlusion(torch.from_numpy(back)[None], torch.from_numpy(there)[None])[0].numpy()
            CheckedFlow.latest = (back, hidden)
        return back


def carry_what_was_seen(values: np.ndarray, flow: np.ndarray | None) -> np.ndarray:
    """carry; pixels that CheckedFlow found to have no past are as likely the object's as not."""
    moved = carry(values, flow)
    if flow is None or CheckedFlow.latest is None or CheckedFlow.latest[0] is not flow:
        return moved
    return np.where(CheckedFlow.latest[1], np.float32(0.5), moved)


def best_alone(tracker: Tracker, overlap: np.ndarray, frame: int, sure: bool) -> np.ndarray:
    """Tracker._components without the other way round: a piece takes the track it overlaps most, as others may."""
    owner = [BACKGROUND]
    for inner in overlap[1:, 1:]:
        known = inner.any()
        owner.append(1 + int(inner.argmax()) if known else tracker._birth(frame, confirmed=sure))
    return np.repeat(np.array(owner, np.int32)[:, None], overlap.shape[1], axis=1)


def only_followed(odds: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """evidence.with_newcomers without what is new."""
    return odds


_regions = Tracker._regions


def none_whole(tracker: Tracker, overlap: np.ndarray, frame: int) -> np.ndarray:
    """Tracker._regions; pixels keep the tracks they carried, but for what parts from the background."""
    before = set(tracker.tracks)
    table = _regions(tracker, overlap, frame)
    born = np.isin(table, list(set(tracker.tracks) - before)).any(1)
    table[~born] = np.arange(overlap.shape[1])
    return table


def none_held(tracker: Tracker, overlap: np.ndarray, frame: int) -> np.ndarray:
    """Tracker._regions; a region that is taken whole takes all of every track in it."""
    table, best = _regions(tracker, overlap, frame), overlap.argmax(1)
    for region in np.flatnonzero(overlap.max(1) >= SNAP_SHARE * np.maximum(1, overlap.sum(1))):
        table[region] = table[region, best[region]]
    return table


def stays(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    """In the place of carry: nothing is carried along."""
    return values


def searched_by(flow: Any) -> dict[tuple[Any, str], Any]:
    """Another search for motion, frame by frame on the host, of which nothing is kept."""
    return {
        (appearance_tracks, "OpticalFlow"): flow,
        (appearance_tracks, "own_motion"): evidence.own_motion,
        (AppearanceTracks, "motions"): lambda *_: (),
    }


TRUSTED: dict[tuple[Any, str], Any] = {(trust, "trust"): lambda luma, *_: np.ones(luma.shape, np.float32)}
NO_NEWCOMERS: dict[tuple[Any, str], Any] = {(host_weighing, "with_newcomers"): only_followed}
EASY_NEWCOMERS: dict[tuple[Any, str], Any] = {(evidence, "NEWCOMER_ODDS"): 0.0}
CAREFULLY = (("STEPS", optical_flow.CAREFUL_STEPS), ("ROUNDS", optical_flow.CAREFUL_ROUNDS))
OVERLAP = "overlap, regions"
"""Choices that begin so are beside this one."""

CHOICES: dict[str, tuple[dict[str, Any], dict[tuple[Any, str], Any]]] = {
    "all of it": ({}, {}),
    "as often as on a CPU": ({"analyse_every": "auto"}, {}),
    "as often as on a CPU; that objects went far is no doubt": (
        {"analyse_every": "auto"},
        {(trust, "DOUBT_PER_PX"): 0.0},
    ),
    "as often as on a CPU; what was carried keeps its specks": (
        {"analyse_every": "auto"},
        {(film_follower, "clear_specks_"): lambda *_: None},
    ),
    "as often as on a CPU; nothing leaves doubt, so every 8th frame": ({"analyse_every": 8}, {}),
    "every 4th frame looked at": ({"analyse_every": 4}, {}),
    "what was carried is trusted, whatever the picture": ({}, TRUSTED),
    "every 4th frame looked at; what was carried is trusted, whatever the picture": ({"analyse_every": 4}, TRUSTED),
    "every 4th frame looked at; between two all is carried from the first": (
        {"analyse_every": 4},
        {(Between, "step"): lambda *_: []},
    ),
    "HED itself, side 3": ({"edge_side": "3"}, {}),
    "HED itself, all sides fused": ({"edge_side": "fuse"}, {}),
    "360 lines": ({"analysis_size": 360}, {}),
    "no motion": ({}, {(evidence, "ALIKE_WEIGHT"): 0.0, (evidence, "MOTION_WEIGHT"): 0.0}),
    "no motion compensation: carried to where it was": (
        {},
        {(host_weighing, "carry"): stays, (host_weighing, "carry_labels"): stays, (trust, "carry"): stays},
    ),
    "motion by the quick search": ({}, searched_by(lambda careful_px: OpticalFlow())),
    "motion by OpenCV's medium search: 25 steps, 5 rounds": ({}, searched_by(lambda careful_px: MediumFlow())),
    "every 4th frame looked at; there patches of motion every 3 px, not every 4": (
        {"analyse_every": 4},
        {(optical_flow, "SPARSE_PX"): DENSE_PX},
    ),
    "every 4th frame looked at; motion that only carries is searched for as carefully": (
        {"analyse_every": 4},
        {(optical_flow, f"CARRYING_{what}"): value for what, value in (("PX", SPARSE_PX), *CAREFULLY)},
    ),
    "motion checked forward and backward: what had no past is open": (
        {},
        {
            **searched_by(lambda careful_px: CheckedFlow(careful_px=careful_px)),
            (host_weighing, "carry"): carry_what_was_seen,
        },
    ),
    "no look": ({}, {(evidence, "LOOK_WEIGHT"): 0.0}),
    "the look of layers 2_2 and 3_2 alone": (
        {},
        {(appearance, "LOOK_LAYERS"): ((2, 2), (3, 2)), (appearance, "DIMENSIONS"): (32, 64)},
    ),
    "the look at 4 px, not at 2, and colours not at each": ({}, {(AppearanceModel, "score_map"): coarse_map}),
    "the background beside the object counts no more": ({}, {(appearance, "NEAR_WEIGHT"): 0.0}),
    "no regions": ({}, {(evidence, "SNAP"): 0.0}),
    "regions that disagree draw a share as others do": ({}, {(evidence, "LEAST_SPREAD"): np.inf}),
    "regions that weak edges part are no body": ({}, {(bodies, "TIE"): 0.0}),
    "no guided filter: shares not drawn to the colours": (
        {},
        {(host_weighing, "drawn_to_colors"): lambda share, *_: share},
    ),
    "nothing is kept of what the guided filter smooths away": ({}, {(guided_filter, "DETAIL"): 0.0}),
    "borders as the guided filter leaves them": ({}, {(host_weighing, "smooth_borders_"): lambda *_: None}),
    "what stands still of what moves counts no more": ({}, {(evidence, "STILL_TIMES"): 1.0}),
    "no foresight: nothing looked at ahead": ({}, {(Foresight, "look"): lambda *_: None}),
    "who begins to move while another is followed is not found": ({}, NO_NEWCOMERS),
    "every 4th frame looked at; who begins to move while another is followed is not found": (
        {"analyse_every": 4},
        NO_NEWCOMERS,
    ),
    "who begins to move while another is followed need not move more than others": ({}, EASY_NEWCOMERS),
    "every 4th frame looked at; who begins to move while another is followed need not move more than others": (
        {"analyse_every": 4},
        EASY_NEWCOMERS,
    ),
    "no mutual best: pieces share the track they overlap most": ({}, {(Tracker, "_components"): best_alone}),
    "what is born is an object at once": ({}, {(tracker, "CONFIRM_AFTER"): 1}),
    "no re-entry: who comes back is another": ({}, {(Reentry, "step"): lambda *_: None}),
    "no motion where what is lost is looked for": ({}, {(host_weighing, "LOST_MOTION_WEIGHT"): 0.0}),
    "who is partly hidden comes out near where it was alone": ({}, {(weighing, "HIDDEN_SHARE"): 0.0}),
    "no memory of the first frame": ({}, {(appearance, "ANCHOR"): 0.0}),
    "no search for what is lost": ({}, {(weighing, "LOST_SHARE"): 0.0}),
    OVERLAP: ({"tracker": "overlap"}, {}),
    f"{OVERLAP}; none is taken whole": ({"tracker": "overlap"}, {(Tracker, "_regions"): none_whole}),
    f"{OVERLAP}; a leak swallows what it reaches": ({"tracker": "overlap"}, {(Tracker, "_regions"): none_held}),
    f"{OVERLAP}; what parts from the background is another": ({"tracker": "overlap"}, {(tracker, "HEIR_SHARE"): 2.0}),
    f"{OVERLAP}; no stain heals": ({"tracker": "overlap"}, {(Tracker, "_shed"): lambda *_: None}),
    "overlap, components (DeepGIF)": ({"tracker": "overlap", "segmenter": "components"}, {}),
}
"""What may be left out or done otherwise: options, and constants of modules and classes. Cuts, and what is remembered
beyond them, have films of their own: eval_shots.py."""
