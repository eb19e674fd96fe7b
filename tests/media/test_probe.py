from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import data, make_clip

from streamstyle.errors import InputError
from streamstyle.frames import ColorTags
from streamstyle.media.probe import probe


def test_describes_a_plain_clip(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", frames=15, size=(64, 48), fps=25))
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, 25, 15)
    assert (info.codec, info.pix_fmt, info.audio, info.rotation, info.start_pts) == ("h264", "yuv420p", ("aac",), 0, 0)
    assert info.duration_s == pytest.approx(0.6)
    assert info.sample_aspect_ratio == 1
    assert info.color == ColorTags(matrix="bt601")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_baked_into_size_and_pixel_shape(tmp_path: Path, rotation: int) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", rotation=rotation, sample_aspect_ratio=Fraction(4, 3), audio=False))
    turned = rotation in (90, 270)
    assert info.rotation == rotation
    assert (info.width, info.height) == ((48, 64) if turned else (64, 48))
    assert info.sample_aspect_ratio == (Fraction(3, 4) if turned else Fraction(4, 3))


@pytest.mark.parametrize(
    ("tags", "size", "matrix", "full"),
    [
        ({}, (64, 48), "bt601", False),
        ({}, (32, 720), "bt709", False),
        ({"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}, (64, 48), "bt709", False),
        ({"colorspace": 5}, (32, 720), "bt601", False),
        ({"colorspace": 6, "color_range": 2}, (64, 48), "bt601", True),
        ({"colorspace": 9, "color_primaries": 9, "color_trc": 16}, (64, 48), "bt2020", False),
    ],
)
def test_color_tags(tmp_path: Path, tags: dict[str, int], size: tuple[int, int], matrix: str, full: bool) -> None:
    color = probe(make_clip(tmp_path / "a.mp4", frames=2, size=size, color=tags, audio=False)).color
    assert (color.matrix, color.full_range) == (matrix, full)
    assert (color.space, color.primaries) == (tags.get("colorspace", 2), tags.get("color_primaries", 2))


def test_rgb_films_carry_no_yuv_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_clip(path, codec="ffv1", pix_fmt="bgra", audio=False)
    assert probe(path).color == ColorTags(matrix="bt601")


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        art = container.add_stream("png", rate=1)
        art.width, art.height, art.pix_fmt = 16, 16, "rgb24"
        art.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        container.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
        container.mux(art.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 2), np.int16), "s16", "stereo")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(InputError, match="has sound but no video"):
        probe(path)


def test_refusals_are_one_line_and_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "notes.txt").write_text("dear diary\n" * 30)
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone")
    for name, reason in {
        "missing.mp4": "no such file",
        "": "a folder without pictures",
        "empty.mp4": "not a video",
        "noise.mp4": "not a video",
        "notes.txt": "give a video file",
        "dangling.mp4": "a link to nothing",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            probe(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_refuses_an_unreadable_file(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        probe(path)


def test_tells_an_unreadable_file_from_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object, **kwargs: object) -> None:
        raise av.error.PermissionError(13, "Permission denied", "a.mp4")

    path = make_clip(tmp_path / "a.mp4")
    monkeypatch.setattr("streamstyle.media.probe.av.open", denied)
    with pytest.raises(InputError, match="permission denied; make it readable"):
        probe(path)


def test_refuses_a_track_of_which_nothing_decodes(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", codec="mpeg4", audio=False)
    raw = bytearray(path.read_bytes())
    start = raw.find(b"\x1f\x43\xb6\x75") + 16  # the first cluster: everything after it is pictures
    raw[start:] = bytes(len(raw) - start)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="no frame could be decoded"):
        probe(path)


@pytest.mark.parametrize(
    ("clip", "width", "height", "rotation", "aspect"),
    [
        ("decord/video_90.mov", 320, 568, 270, Fraction(1)),
        ("fate/h264_displaymatrix.mp4", 240, 160, 270, Fraction(2)),
        ("torchcodec/nasa_13013_rotated.mp4", 270, 480, 90, Fraction(1)),
        ("streamio/weird_aspect.small.mpg", 352, 288, 0, Fraction(64, 45)),
    ],
)
def test_real_clips(clip: str, width: int, height: int, rotation: int, aspect: Fraction) -> None:
    info = probe(data(f"videos/{clip}"))
    assert (info.width, info.height, info.rotation, info.sample_aspect_ratio) == (width, height, rotation, aspect)


def test_real_tracks_and_starts() -> None:
    assert probe(data("videos/torchcodec/nasa_13013.mp4")).audio == ("aac", "aac")
    late = probe(data("videos/torchcodec/test_non_zero_start.mp4"))
    assert float(late.start_pts * late.time_base) == pytest.approx(8.333, abs=1e-3)
    hdr = probe(data("videos/torchcodec/bt2020_10bit.mp4")).color
    assert (hdr.matrix, hdr.space, hdr.primaries, hdr.transfer) == ("bt2020", 9, 9, 16)
