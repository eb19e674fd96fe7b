"""What is said of who is followed, whoever weighs."""

from __future__ import annotations

import numpy as np
import pytest

from streamstyle.objects.tracker import RECENT_FALL, Tracker
from streamstyle.objects.weighing import FOUND, HIDDEN_SHARE, LOST_SHARE, Cast, hidden_below_px, lost_below_px


def test_named_classes_are_all_but_found():
    assert Cast((3, FOUND, 1), (True, False, True), False).named == [0, 2]
    assert Cast((), (), True).named == []


def test_what_is_lost_is_measured_by_its_usual_area():
    tracker = Tracker("components")
    slot = tracker.claim("swan", 0)
    assert lost_below_px(tracker.tracks[slot]) == 0  # who was not seen yet is not lost
    tracker.observe(np.array([0, 500]), 0)
    tracker.observe(np.array([0, 700]), 1)
    assert lost_below_px(tracker.tracks[slot]) == pytest.approx(LOST_SHARE * 600)


def test_what_is_hidden_is_measured_by_what_it_had_lately():
    """What is hidden at once has little of that; what shrinks slowly has all of it; a click makes it begin anew."""
    tracker = Tracker("components")
    slot = tracker.claim("car", 0)
    track = tracker.tracks[slot]
    assert hidden_below_px(track) == 0
    tracker.observe(np.array([0, 1000]), 0)
    tracker.observe(np.array([0, 200]), 4)
    assert hidden_below_px(track) == pytest.approx(HIDDEN_SHARE * 1000 * (1 - RECENT_FALL) ** 4)
    for frame in range(5, 120):
        tracker.observe(np.array([0, 200]), frame, hidden=[slot])
    assert hidden_below_px(track) == HIDDEN_SHARE * 200
    again = Tracker("components")
    again.load_state_dict(tracker.state_dict())
    assert hidden_below_px(again.tracks[slot]) == HIDDEN_SHARE * 200
    tracker.forget_area(slot)
    assert hidden_below_px(track) == 0
