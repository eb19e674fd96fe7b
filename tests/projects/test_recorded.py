"""Statistics that are asked for late are recorded once."""

from __future__ import annotations

from typing import Any

from streamstyle.projects.recorded import Recorded


def test_it_is_recorded_once_and_only_when_asked_for() -> None:
    calls, maps = [], [object(), object()]

    def record() -> list[Any]:
        calls.append(1)
        return maps

    recorded = Recorded(record)
    assert calls == []
    assert (len(recorded), recorded[1], [*recorded[:1]]) == (2, maps[1], maps[:1])
    assert calls == [1]
