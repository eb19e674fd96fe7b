import dataclasses
import json
import tracemalloc
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from streamstyle.errors import InputError, ShapeError
from streamstyle.frames import VideoInfo
from streamstyle.media.label_track import FORMAT, LabelTrack, LabelTrackWriter

NAMES = {1: "swan", 2: "der Hügel", 300: "object 300"}


@pytest.fixture
def info(tmp_path) -> VideoInfo:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"a film" * 1000)
    return VideoInfo(str(film), 64, 48, Fraction(1, 12800), Fraction(25), frames=5)


def maps(count: int = 5, top: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, top, (12, 16), np.int32).repeat(2, 0) for _ in range(count)]


def write(path, info, labels, names=NAMES):
    with LabelTrackWriter(path, info, names) as track:
        for i, frame in enumerate(labels):
            track.add(frame, 512 * i)
    return path


def test_a_track_comes_back(tmp_path, info):
    labels = maps()
    labels[3][0, 0] = 300
    with LabelTrack(write(tmp_path / "a.npz", info, labels)) as track:
        assert len(track) == 5
        assert (track.size, track.source_size) == ((24, 16), (48, 64))
        assert (track.time_base, track.names) == (info.time_base, NAMES)
        assert track.pts.tolist() == [0, 512, 1024, 1536, 2048]
        assert [frame.dtype for frame in track] == [np.uint16 if i == 3 else np.uint8 for i in range(5)]
        assert all(np.array_equal(seen, said) for seen, said in zip(track, labels, strict=True))
        assert np.array_equal(track[2], labels[2])
        assert track.check(info) == []
        with pytest.raises(IndexError, match="no frame 5"):
            track[5]


def test_numpy_opens_it(tmp_path, info):
    labels = maps()
    with np.load(write(tmp_path / "a.npz", info, labels)) as file:
        assert np.array_equal(file["frames/00001"], labels[1])
        assert file["pts"].tolist() == [0, 512, 1024, 1536, 2048]
        assert json.loads(file["meta.json"])["format"] == FORMAT


def test_the_same_labels_make_the_same_bytes(tmp_path, info):
    first, second = (write(tmp_path / name, info, maps()).read_bytes() for name in ("a.npz", "b.npz"))
    assert first == second


def test_a_film_without_frames_and_names_that_come_late(tmp_path, info):
    with LabelTrack(write(tmp_path / "none.npz", info, [])) as track:
        assert (len(track), list(track), track.pts.dtype) == (0, [], np.int64)
    names: dict[int, str] = {}
    with LabelTrackWriter(tmp_path / "a.npz", info, names) as writer:
        writer.add(maps()[0], 0)
        names[1] = "late"
    with LabelTrack(tmp_path / "a.npz") as track:
        assert track.names == {1: "late"}


def test_an_error_on_the_way_leaves_what_was_there(tmp_path, info):
    before = write(tmp_path / "a.npz", info, maps(2)).read_bytes()
    with pytest.raises(ShapeError):
        write(tmp_path / "a.npz", info, [maps()[0], np.zeros((1, 1))])
    assert (tmp_path / "a.npz").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "film.mp4"}


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((3, 4, 1), np.uint8), "integers of one size, got uint8"),
        (np.zeros((3, 4)), "integers of one size, got float64"),
        (np.zeros((3, 5), np.uint8), "integers of one size, got uint8 .3, 5."),
        (np.full((3, 4), -1), "got -1 .. -1"),
        (np.full((3, 4), 65536), "got 65536 .. 65536"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, info, frame, said):
    with pytest.raises(ShapeError, match=said):
        write(tmp_path / "a.npz", info, [np.zeros((3, 4), np.uint8), frame])


def test_memory_does_not_grow_with_the_film(tmp_path, info):
    def peak(count: int) -> int:
        tracemalloc.start()
        with LabelTrackWriter(tmp_path / f"{count}.npz", info, {}) as writer:
            for i in range(count):
                writer.add(np.full((64, 64), i % 7, np.uint8), i)
        with LabelTrack(tmp_path / f"{count}.npz") as track:
            assert sum(1 for _ in track) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    few, many = peak(100), peak(1100)
    assert many - few < 1000 * 1200  # a frame is 4096 bytes; the zip's table is what grows, when written and when read


# -- files that are not what they should be ---------------------------------------------------------------------------


def refused(path) -> str:
    with pytest.raises(InputError) as error, LabelTrack(path) as track:
        list(track)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("a shopping list")
    np.savez(tmp_path / "other.npz", frames=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "json.npz", "w") as file:
        file.writestr("meta.json", '{"format": "something else", "version": 1}')
    with zipfile.ZipFile(tmp_path / "list.npz", "w") as file:
        file.writestr("meta.json", "[1, 2]")
    assert "not a label track, or cut short" in refused(tmp_path / "text.npz")
    assert "no meta.json in it" in refused(tmp_path / "other.npz")
    assert "something else" in refused(tmp_path / "json.npz")
    assert "not a label track this version reads" in refused(tmp_path / "list.npz")
    assert "no such file" in refused(tmp_path / "gone.npz")
    assert "cannot be read" in refused(tmp_path)


def test_a_track_cut_short_anywhere_is_refused(tmp_path, info):
    whole = write(tmp_path / "a.npz", info, maps()).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.npz").write_bytes(whole[: int(len(whole) * share)])
        assert "cut short" in refused(tmp_path / "cut.npz")


def test_a_damaged_frame_is_named(tmp_path, info):
    write(tmp_path / "a.npz", info, maps())
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        at = file.getinfo("frames/00002.npy").header_offset
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[at + 60] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    assert "frame 2 is damaged" in refused(tmp_path / "a.npz")


def test_a_frame_that_is_gone_or_of_another_size_is_named(tmp_path, info):
    write(tmp_path / "a.npz", info, maps())
    for name, left_out in (("gone", True), ("size", False)):
        with zipfile.ZipFile(tmp_path / "a.npz") as old, zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as new:
            for member in old.namelist():
                content = old.read(member)
                if member == "frames/00003.npy":
                    content = old.read("pts.npy")
                if not (left_out and member == "frames/00003.npy"):
                    new.writestr(member, content)
        assert "frame 3 is damaged" in refused(tmp_path / f"{name}.npz")


def test_a_track_of_another_film_is_told(tmp_path, info):
    with LabelTrack(write(tmp_path / "a.npz", info, maps())) as track:
        with pytest.raises(InputError, match=r"labels of a film of 64x48, .* is 48x64"):
            track.check(dataclasses.replace(info, width=48, height=64))
        assert track.check(dataclasses.replace(info, frames=9)) == []  # how many a film has may be an estimate
        assert track.check(dataclasses.replace(info, frames=None)) == []
        (tmp_path / "film.mp4").write_bytes(b"another film")
        assert ["no longer, the file" in line for line in track.check(dataclasses.replace(info, frames=5))] == [True]
        told, of_count = track.check(dataclasses.replace(info, frames=9))
        assert "no longer, the file" in told
        assert "has 5 frames" in of_count
