"""What follows a film's objects, and how often a frame is looked at."""

from __future__ import annotations

import pytest

from streamstyle.config import AnalysisOptions
from streamstyle.objects.chosen_tracks import look_every


@pytest.mark.parametrize(
    ("said", "cpu", "cuda"),
    [
        ({}, 8, 1),
        ({"segmenter": "components"}, 8, 1),
        ({"tracker": "overlap"}, 4, 1),
        ({"tracker": "overlap", "segmenter": "components"}, 1, 1),
        ({"tracker": "overlap", "segmenter": "components", "analyse_every": 3}, 3, 3),
        ({"analyse_every": 7}, 7, 7),
    ],
)
def test_how_often_is_looked_and_always_where_it_is_as_published(said, cpu, cuda):
    options = AnalysisOptions(**said)
    assert (look_every(options, "cpu"), look_every(options, "cuda")) == (cpu, cuda)
