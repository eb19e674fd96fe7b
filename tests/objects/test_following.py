"""Whatever a SceneReader may be given takes what it is asked, by the names that it is asked by."""

from __future__ import annotations

import inspect

import pytest

from streamstyle.objects.following import Following, Given
from streamstyle.objects.object_tracks import ObjectTracks
from streamstyle.tracks.given_tracks import GivenTracks


@pytest.mark.parametrize(("kind", "asked"), [(ObjectTracks, Following), (GivenTracks, Following), (GivenTracks, Given)])
def test_who_follows_takes_what_is_asked(kind, asked):
    methods = dict(inspect.getmembers(asked, inspect.isfunction))
    assert {"wants", "step", "report", "state_dict"} <= methods.keys()
    known = {"every", "tracker", "left_out"}  # told in its head, or given by the constructor
    properties = [name for name, _ in inspect.getmembers(asked, lambda part: isinstance(part, property))]
    assert {"pending", "untaken"} <= {*properties}
    source = inspect.getsource(kind)
    assert all(hasattr(kind, name) or f"self.{name}" in source for name in known.union(properties))
    for name, method in methods.items():
        if not name.startswith("_"):
            assert list(inspect.signature(getattr(kind, name)).parameters) == list(inspect.signature(method).parameters)
