"""What is noted of a segment that is open makes, in another process, the very files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamstyle.frames import Checkpoint, FrameBatch, VideoInfo
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.states import read_state, write_state
from streamstyle.projects.project import LABELS
from streamstyle.projects.read_parts import Noted, ReadPartsWriter, read_of

INFO = VideoInfo("in.mp4", 16, 12, Fraction(1, 25), Fraction(25))
FILM = {"size": 1}
COUNT = 6


def frame(i: int, most: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    labels = np.zeros((6, 8), np.int32)
    labels[1 : 2 + i % 4, 2:5] = 1 + (most - 1) * (i == 2)
    return 40 * i, i // 4, np.full((6, 8), 10 * i, np.uint8), labels


def write(writer: ReadPartsWriter, frames: range, most: int) -> None:
    for i in frames:
        writer.add(*frame(i, most))
        if i == 1:
            y = np.full((1, 12, 16), 77, np.uint8)
            writer.refer(FrameBatch(y, y[:, ::2, ::2], y[:, 1::2, ::2], (40,), 101), 0)


def writer_in(folder: Path) -> ReadPartsWriter:
    folder.mkdir()
    return ReadPartsWriter(folder, INFO, FILM, folder, notes=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [2, 300])
def test_who_goes_on_makes_the_same_files(tmp_path: Path, cut: int, most: int) -> None:
    end, more = Checkpoint(200, 9, {}), {"numbers": {"objects": []}}
    whole = writer_in(tmp_path / "whole")
    write(whole, range(COUNT), most)
    whole.finish(end, more)

    first = writer_in(tmp_path / "first")
    write(first, range(cut), most)
    write_state(tmp_path / "noted", first.noted())
    write(first, range(cut, COUNT), most)  # what is read back does not come into the way of what is still written
    first.finish(end, more)
    assert files(tmp_path / "first") == files(tmp_path / "whole")

    again = writer_in(tmp_path / "again")
    again.take(Noted.of(read_state(tmp_path / "noted")))
    write_state(tmp_path / "twice", again.noted())
    assert (tmp_path / "twice").read_bytes() == (tmp_path / "noted").read_bytes()
    write(again, range(cut, COUNT), most)
    again.finish(end, more)
    assert files(tmp_path / "again") == files(tmp_path / "whole")
    assert read_of(tmp_path / "again")["pts"].tolist() == [40 * i for i in range(COUNT)]
    with LabelTrack(tmp_path / "again" / LABELS) as track:
        assert [int(labels.max()) for labels in track] == [1, 1, most, 1, 1, 1]


def lose_the_maps(said: dict[str, Any]) -> None:
    del said["maps"]


def lose_the_times(said: dict[str, Any]) -> None:
    del said["pts"]


def be_no_array(said: dict[str, Any]) -> None:
    said["references"] = {"000101.npz": 5}


@pytest.mark.parametrize("damage", [lose_the_maps, lose_the_times, be_no_array])
def test_what_is_no_note_is_noticed(tmp_path: Path, damage: Any) -> None:
    """That of what is one no byte has changed, read_state sees to."""
    writer = writer_in(tmp_path / "first")
    write(writer, range(3), 2)
    said = writer.noted()
    Noted.of(said)
    damage(said)
    with pytest.raises((LookupError, AttributeError)):
        Noted.of(said)
    writer.abandon()
    assert {path.name for path in (tmp_path / "first").iterdir()} == {"references"}
