"""Flow tracks: what was written comes back to the last step, and what is damaged is told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamstyle.errors import InputError, OutputError, ShapeError
from streamstyle.media.flow_track import FlowTrack, FlowTrackWriter

SIZE, STEPS = (23, 40), 32
FILM = {"size_bytes": 9, "changed_ns": 1, "blake2b": "ab"}
OF = (FILM, 1001)  # and the first pts


def smooth(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A motion as films have it."""
    noise = np.random.default_rng(seed).normal(0, 4000, (*size, 2)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 7).round().astype(np.int16)


def written(path: Path, frames: dict[int, np.ndarray]) -> Path:
    writer = FlowTrackWriter(path, STEPS, *OF)
    for number, flow in frames.items():
        writer.add(number, flow)
    writer.finish()
    return path


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = {
        1: smooth(1),
        2: rng.integers(-(1 << 15), 1 << 15, (*SIZE, 2)).astype(np.int16),
        5: np.zeros((*SIZE, 2), np.int16),
        6: np.where(rng.random((*SIZE, 2)) < 0.5, np.int16(-(1 << 15)), np.int16((1 << 15) - 1)),
    }
    with FlowTrack(written(tmp_path / "a.zip", frames), SIZE, STEPS, *OF) as track:
        for number in range(8):
            found = track.frame(number)
            assert (found is None) == (number not in frames)
            if found is not None:
                assert found.dtype == np.int16
                assert found.flags.c_contiguous
                np.testing.assert_array_equal(found, frames[number])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    flow = np.arange(-3, 2 * size[0] * size[1] - 3, dtype=np.int16).reshape(*size, 2)
    with FlowTrack(written(tmp_path / "a.zip", {0: flow}), size, STEPS, *OF) as track:
        np.testing.assert_array_equal(track.frame(0), flow)


def test_smooth_motion_is_small_and_the_same_makes_the_same_bytes(tmp_path: Path) -> None:
    flow = smooth(0, (180, 320))
    one, other = (written(tmp_path / name, {0: flow}).read_bytes() for name in ("a.zip", "b.zip"))
    assert one == other
    assert len(one) < flow.nbytes / 4


def test_what_is_no_motion_is_refused(tmp_path: Path) -> None:
    writer = FlowTrackWriter(tmp_path / "a.zip", STEPS, *OF)
    writer.add(0, smooth(0))
    for wrong in (smooth(0)[..., 0], smooth(0).astype(np.int32), smooth(0, (22, 40))):
        with pytest.raises(ShapeError, match=r"flow must be \[h, w, 2\] int16 of one size, got"):
            writer.add(1, wrong)
    writer.abandon()
    with pytest.raises(OutputError, match="could not be written"):
        FlowTrackWriter(tmp_path / "none" / "a.zip", STEPS, *OF)


def test_what_is_damaged_is_told_in_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {0: smooth(0), 1: smooth(1)})
    whole = path.read_bytes()

    def refused(words: str, size: tuple[int, int] = SIZE, steps: int = STEPS) -> None:
        with pytest.raises(InputError, match=words) as said:
            FlowTrack(path, size, steps, *OF)
        assert "\n" not in str(said.value)

    refused(r"not the flow track wanted \(of \[23, 40\], 32 steps a pixel\)", steps=16)
    refused("not the flow track wanted", size=(40, 23))
    for content in (b"", whole[:-10], b"text"):
        path.write_bytes(content)
        refused("cannot be read")
    path.unlink()
    refused("No such file")
    at = whole.index(b"000001") + 40
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with FlowTrack(path, SIZE, STEPS, *OF) as track:
        np.testing.assert_array_equal(track.frame(0), smooth(0))
        with pytest.raises(InputError, match="frame 1 is damaged"):
            track.frame(1)


def test_a_frame_of_another_length_is_damaged(tmp_path: Path) -> None:
    writer = FlowTrackWriter(tmp_path / "a.zip", STEPS, *OF)
    writer.add(0, smooth(0))
    writer._write("000001", b"not packed")
    writer._numbers.append(1)
    writer._size = (24, 40, 2)
    writer.finish()
    with FlowTrack(tmp_path / "a.zip", (24, 40), STEPS, *OF) as track:
        with pytest.raises(InputError, match=r"frame 0 is damaged \(of another length\)"):
            track.frame(0)
        with pytest.raises(InputError, match="frame 1 is damaged"):
            track.frame(1)


def all_of(path: Path, numbers: range) -> list[bytes | None] | None:
    """What a track tells of its frames; None where it is told to be damaged."""
    try:
        with FlowTrack(path, SIZE, STEPS, *OF) as track:
            found = [track.frame(number) for number in numbers]
            track.check()
    except InputError:
        return None
    return [None if flow is None else flow.tobytes() for flow in found]


def test_whatever_is_damaged_is_told_or_of_no_account(tmp_path: Path) -> None:
    """Each byte in turn, to its opposite and by a bit, and cut short anywhere."""
    frames = {1: np.full((*SIZE, 2), 3, np.int16), 2: smooth(0) // 512, 4: np.zeros((*SIZE, 2), np.int16)}
    path = written(tmp_path / "a.zip", frames)
    content = path.read_bytes()
    wanted, told = all_of(path, range(6)), 0
    assert wanted is not None
    assert [flow is not None for flow in wanted] == [False, True, True, False, True, False]
    for at in range(len(content)):
        for flip in (255, 1):
            path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
            found = all_of(path, range(6))
            assert found in (None, wanted), at
            told += found is None
    assert told > len(content)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert all_of(path, range(6)) is None, length


def test_a_member_packed_in_another_way_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {1: smooth(0)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    for method in (8, 12, 14, 93, 99):
        content[entry + 10] = method
        path.write_bytes(content)
        with FlowTrack(path, SIZE, STEPS, *OF) as track, pytest.raises(InputError, match="frame 1 is damaged"):
            track.frame(1)


def test_of_another_film_or_stretch_it_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {1: smooth(0)})
    FlowTrack(path, SIZE, STEPS, FILM | {"changed_ns": 2}, 1001).__exit__()
    for film, first_pts in ((FILM | {"blake2b": "cd"}, 1001), (FILM, 2002)):
        with pytest.raises(InputError, match="of another film, or another stretch of it"):
            FlowTrack(path, SIZE, STEPS, film, first_pts)


def test_damage_is_found_without_unpacking(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {1: smooth(0), 2: smooth(1)})
    content = path.read_bytes()
    at = content.index(b"000002") + 40
    path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    with FlowTrack(path, SIZE, STEPS, *OF) as track, pytest.raises(InputError, match="frame 2 is damaged"):
        track.check()
