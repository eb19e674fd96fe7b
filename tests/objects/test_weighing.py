"""What is said of who is followed, whoever weighs."""

from __future__ import annotations

import numpy as np
import pytest

from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, LOST_SHARE, Cast, lost_below_px


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
