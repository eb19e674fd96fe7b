from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from clips import draw

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.frames import output_chroma
from streamstyle.media import codecs
from streamstyle.media.codecs import VideoEncoder, choose_encoder, encoder_context

FPS = Fraction(30)
SOFTWARE = [(codec, suffix) for codec in ("h264", "hevc") for suffix in (".mp4", ".mov", ".mkv")]
SOFTWARE += [("av1", ".mp4"), ("av1", ".mkv"), ("prores", ".mov"), ("prores", ".mkv")]
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
HARDWARE = {"h264_nvenc", "hevc_nvenc", "h264_qsv", "h264_amf"}


def test_versions_are_of_pyav_and_its_libraries():
    found = codecs.versions()
    assert {"av", "libavcodec", "libavformat", "libswscale"} <= found.keys()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+.*", version) for version in found.values()), found


@pytest.mark.parametrize("has", [codecs.has_encoder, codecs.has_decoder])
@pytest.mark.parametrize("name", ["aac", "rawvideo"])
def test_ffmpeg_always_has_these(has, name):
    assert has(name)


@pytest.mark.parametrize("has", [codecs.has_encoder, codecs.has_decoder])
def test_what_is_not_there_is_not_there(has):
    assert not has("no_such_codec")


def test_an_encoder_is_not_a_decoder():
    assert codecs.has_encoder("libx264")
    assert not codecs.has_decoder("libx264")


def choose(suffix: str = ".mp4", size: tuple[int, int] = (96, 64), fps: Fraction = FPS, **options) -> VideoEncoder:
    return codecs.choose_encoder(
        OutputOptions(**options), f"out{suffix}", size=size, format_name=FORMATS[suffix], fps=fps
    )


def refusal(error: type[Exception], *args, **options) -> str:
    with pytest.raises(error) as refused:
        choose(*args, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def film(size: tuple[int, int], count: int) -> list[VideoFrame]:
    """Noisy frames in the layout that is painted, with a cut in the middle."""
    noise, frames = np.random.default_rng(1), []
    for i in range(count):
        rgb = draw(i, size).astype(int) + noise.integers(-20, 20, (size[1], size[0], 1))
        rgb = (255 - rgb if i > count // 2 else rgb).clip(0, 255).astype(np.uint8)
        frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=output_chroma(*size), threads=1)
        frame.pts, frame.time_base = i, 1 / FPS
        frames.append(frame)
    return frames


def encoded(encoder: VideoEncoder, frames: list[VideoFrame]) -> tuple[bytes | None, list[av.Packet]]:
    """Extradata and packets of a fresh encoder."""
    size = frames[0].width, frames[0].height
    context = codecs.encoder_context(encoder, size=size, fps=FPS, time_base=1 / FPS)
    context.open()
    extradata = context.extradata
    packets = [packet for frame in frames for packet in context.encode(codecs.fit_frame(frame, encoder))]
    return extradata, packets + context.encode(None)


# -- software -------------------------------------------------------------------------------------------------------


def test_x264_leaves_avx512_alone_where_there_is_some(monkeypatch):
    """See Note [The same packets]."""
    monkeypatch.setattr(codecs.cv2, "checkHardwareSupport", lambda feature: feature == 13)
    assert choose(encoder="software").options["x264-params"] == "asm=avx2"


def test_software_h264_is_as_it_always_was(monkeypatch):
    monkeypatch.setattr(codecs.cv2, "checkHardwareSupport", lambda feature: False)
    assert choose(encoder="software") == VideoEncoder(
        "libx264", "yuv420p", {"crf": "20", "preset": "veryfast"}, codec_tag="avc1"
    )
    assert choose(".mkv", (35, 21), encoder="software", crf=0, preset="slow") == VideoEncoder(
        "libx264", "yuv444p", {"crf": "0", "preset": "slow"}
    )


@pytest.mark.parametrize(("cores", "kind"), [(2, "SLICE"), (16, "FRAME")])
def test_x264_does_frames_at_once_where_there_are_cores_for_them(monkeypatch, cores, kind):
    monkeypatch.setattr(codecs, "cores", lambda: cores)
    encoder = choose_encoder(OutputOptions(), "out.mp4", size=(64, 48), format_name="mp4", fps=Fraction(25))
    context = encoder_context(encoder, size=(64, 48), fps=Fraction(25), time_base=Fraction(1, 25))
    assert context.thread_type.name == kind


@pytest.mark.parametrize(("codec", "crf"), [("h264", "20"), ("hevc", "22"), ("av1", "30")])
def test_each_codec_has_its_own_default_quality(codec, crf):
    assert choose(codec=codec, encoder="software").options["crf"] == crf
    assert choose(codec=codec, encoder="software", crf=33).options["crf"] == "33"


def test_best_quality_is_not_taken_for_none_given():
    assert choose(codec="av1", encoder="software", crf=0).options["crf"] == "1"


@pytest.mark.parametrize("codec", codecs.SOFTWARE)
@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "slow"])
def test_every_option_is_known_to_its_encoder(codec, preset):
    encoder = choose(".mkv", codec=codec, encoder="software", preset=preset)
    context = codecs.encoder_context(encoder, size=(96, 64), fps=FPS, time_base=1 / FPS)
    context.open()
    assert context.options == {}  # what FFmpeg did not take is left here
    packets = context.encode(codecs.fit_frame(film((96, 64), 1)[0], encoder))
    assert len(packets + context.encode(None)) == 1


@pytest.mark.parametrize("codec", codecs.SOFTWARE)
def test_two_fresh_encoders_give_the_same_packets_and_a_closed_group(codec):
    encoder, frames = choose(".mkv", (160, 96), codec=codec, encoder="software"), film((160, 96), 40)
    extradata, packets = encoded(encoder, frames)
    again_extradata, again = encoded(encoder, frames)
    assert extradata == again_extradata
    assert [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets] == [
        (bytes(p), p.pts, p.dts, p.is_keyframe) for p in again
    ]
    assert packets[0].is_keyframe
    assert [packet.pts for packet in sorted(packets, key=lambda packet: packet.pts)] == list(range(40))
    for i, packet in enumerate(packets):
        if packet.is_keyframe:
            assert min(later.pts for later in packets[i:]) == packet.pts, "a picture shown before its keyframe"


@pytest.mark.parametrize("codec", codecs.SOFTWARE)
def test_extradata_does_not_depend_on_the_pictures(codec):
    encoder = choose(".mkv", codec=codec, encoder="software")
    first, second = (encoded(encoder, frames)[0] for frames in (film((96, 64), 2), film((96, 64), 9)[5:]))
    assert first == second


@pytest.mark.parametrize(("codec", "suffix"), SOFTWARE)
@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_a_track_that_players_know(tmp_path: Path, codec: str, suffix: str, size: tuple[int, int]) -> None:
    if codec == "av1" and size[0] % 2:
        pytest.skip("av1 holds no odd size")
    encoder = choose(suffix, size, codec=codec, encoder="software")
    frames, path = film(size, 8), tmp_path / f"out{suffix}"
    time_base = Fraction(1, 90_000)
    with av.open(str(path), "w", format=FORMATS[suffix]) as container:
        track = codecs.add_video_stream(container, encoder, size=size, fps=FPS, time_base=time_base)
        for frame in frames:
            frame.pts, frame.time_base = frame.pts * 3000, time_base
            container.mux(track.encode(codecs.fit_frame(frame, encoder)))
        container.mux(track.encode(None))
    with av.open(str(path)) as container:
        found = container.streams.video[0]
        assert found.codec_context.codec.canonical_name == codec
        if suffix != ".mkv":
            tags = {"h264": "avc1", "hevc": "hvc1", "av1": "av01", "prores": "apch"}
            assert found.codec_context.codec_tag == tags[codec]
        decoded = list(container.decode(found))
    assert [round(frame.time * 30) for frame in decoded] == list(range(8))
    for frame, source in zip(decoded, frames, strict=True):
        assert (frame.width, frame.height) == size
        found_rgb, wanted = (f.reformat(format="rgb24", threads=1).to_ndarray() for f in (frame, source))
        assert np.abs(found_rgb.astype(int) - wanted).mean() < 12


@pytest.mark.parametrize("fps", [Fraction(1, 100), Fraction(24000, 1001), Fraction(1000)])
@pytest.mark.parametrize("codec", codecs.SOFTWARE)
def test_any_frame_rate_opens(codec, fps):
    assert choose(".mkv", fps=fps, codec=codec, encoder="software").name == codecs.SOFTWARE[codec]


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_encoders_write_nothing_to_the_terminal(codec, capfd):
    encoded(choose(codec=codec, encoder="software"), film((96, 64), 3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(96, 64), (35, 21)])
def test_prores_gets_the_very_luma(size, full):
    (frame,) = film(size, 1)
    frame.color_range = 2 if full else 1
    fitted = codecs.fit_frame(frame, choose(".mov", size, codec="prores"))
    eight, ten = (
        np.frombuffer(f.planes[0], kind).reshape(size[1], -1)[:, : size[0]]
        for f, kind in ((frame, np.uint8), (fitted, np.uint16))
    )
    assert np.array_equal(ten, eight.astype(np.uint16) * 4)
    assert (fitted.pts, fitted.time_base, fitted.duration) == (frame.pts, frame.time_base, frame.duration)
    assert fitted.color_range == frame.color_range


def test_a_frame_that_fits_is_not_copied():
    (frame,) = film((96, 64), 1)
    assert codecs.fit_frame(frame, choose(encoder="software")) is frame


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "size", "options", "said"),
    [
        (".mp4", (96, 64), {"codec": "prores"}, "prores does not go into this container; end the name in .mov or .mkv"),
        (".m4v", (96, 64), {"codec": "prores"}, "end the name in .mov or .mkv"),
        (".mov", (96, 64), {"codec": "av1"}, "av1 does not go into this container; end the name in .mp4 or .mkv"),
        (".mp4", (97, 65), {"codec": "av1"}, "av1 holds no odd size (97x65); give --size 64 or --codec h264"),
        (".mp4", (97, 3), {"codec": "av1"}, "give --size 16 or --codec h264"),
        (".mp4", (2, 2), {"codec": "av1"}, "libsvtav1 does not take 2x2 (Invalid argument); give another --size"),
        (".mp4", (640, 62), {"codec": "hevc"}, "640x62 is too small for hevc; give --size 64 or --codec h264"),
    ],
)
def test_what_cannot_be_written_is_refused(suffix, size, options, said):
    message = refusal(OutputError, suffix, size, encoder="software", **options)
    assert message.startswith(f"out{suffix}: ")
    assert said in message


def test_prores_has_no_crf():
    assert refusal(OptionError, ".mov", codec="prores", crf=20) == "--crf 20: prores has no --crf; leave it out"


def test_an_ffmpeg_without_the_encoder_is_told(monkeypatch):
    monkeypatch.setattr(codecs, "has_encoder", lambda name: False)
    assert refusal(OutputError, codec="hevc").endswith(
        "FFmpeg here has no libx265, which writes hevc; give --codec h264"
    )
    assert refusal(OutputError, codec="h264").endswith("which writes h264; give another --codec")


# -- hardware -------------------------------------------------------------------------------------------------------


class StandIn:
    """In place of FFmpeg's hardware encoders: libx264 under their names; which of them work is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *working: str, packets_lost: int = 0) -> None:
        self.tried: list[str] = []
        self._real, self._working, self._lost = codecs.encoder_context, working, packets_lost
        monkeypatch.setattr(codecs, "has_encoder", lambda name: name in HARDWARE | {"libx264", "libx265"})
        monkeypatch.setattr(codecs, "encoder_context", self._context)

    def _context(self, encoder: VideoEncoder, **job):
        if encoder.name not in HARDWARE:
            return self._real(encoder, **job)
        self.tried.append(encoder.name)
        if encoder.name not in self._working:
            raise av.error.PermissionError(1, "Operation not permitted")
        inner, lost = self._real(VideoEncoder("libx264", encoder.pix_fmt), **job), self._lost

        class Context:
            open = inner.open

            def encode(self, frame):
                return inner.encode(frame)[lost:]

        return Context()


def test_auto_takes_the_first_hardware_that_works(monkeypatch):
    stand_in = StandIn(monkeypatch, "h264_qsv", "h264_amf")
    chosen = choose()
    assert (chosen.name, chosen.pix_fmt, chosen.codec_tag, chosen.name in HARDWARE) == (
        "h264_qsv",
        "nv12",
        "avc1",
        True,
    )
    assert stand_in.tried == ["h264_nvenc", "h264_qsv"]


@pytest.mark.parametrize("options", [{"size": (35, 21)}, {"encoder": "software"}])
def test_software_is_taken_where_hardware_is_not_wanted_or_cannot(monkeypatch, options):
    stand_in = StandIn(monkeypatch, *HARDWARE)
    assert choose(**options).name == "libx264"
    assert stand_in.tried == []


def test_auto_falls_back_to_software(monkeypatch):
    StandIn(monkeypatch)
    assert choose() == choose(encoder="software")
    StandIn(monkeypatch, "h264_nvenc", packets_lost=1)
    assert choose().name == "libx264"


def test_a_name_is_taken_at_its_word(monkeypatch):
    StandIn(monkeypatch, *HARDWARE)
    assert choose(encoder="h264_amf").name == "h264_amf"
    assert choose(encoder="libx264") == choose(encoder="software")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "h264_nvenc"}, "does not work here at 96x64 (Operation not permitted)"),
        ({"encoder": "h264_qsv", "size": (35, 21)}, "holds no odd size (35x21)"),
        ({"encoder": "h264_vaapi"}, "FFmpeg here has none of that name for h264"),
        ({"encoder": "x264"}, "FFmpeg here has none of that name for h264"),
        ({"encoder": "h264"}, "FFmpeg here has none of that name for h264"),
        ({"encoder": ""}, "FFmpeg here has none of that name for h264"),
    ],
)
def test_a_name_that_does_not_work_is_answered_with_those_that_do(monkeypatch, options, said):
    StandIn(monkeypatch, "h264_amf")
    works = "libx264" if "size" in options else "libx264, h264_amf"
    message = refusal(OptionError, **options)
    assert message == f"--encoder {options['encoder']}: {said}; give one of auto, software, {works}"


@pytest.mark.parametrize(
    ("name", "codec", "other"),
    [("libx265", "h264", "hevc"), ("av1_nvenc", "hevc", "av1"), ("prores_ks", "h264", "prores")],
)
def test_a_name_for_another_codec_is_refused(name, codec, other):
    message = refusal(OptionError, codec=codec, encoder=name)
    assert message == f"--encoder {name}: is for {other}, not {codec}; add --codec {other}"


def test_this_machine_chooses_something_that_encodes():
    chosen = choose(size=(640, 360))
    _, packets = encoded(chosen, film((640, 360), 3))
    assert len(packets) == 3


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("kind", codecs.HARDWARE)
def test_hardware_options_exist_and_their_values_too(codec, kind):
    name = f"{codec}_{kind}"
    if not codecs.has_encoder(name):
        pytest.skip(f"FFmpeg here has no {name}")
    known = av.CodecContext.create(name, "w").supported_options
    options = {option.name: option for option in (*known.generic, *known.private)}
    for crf in (0, 20, 51):
        for preset in ("ultrafast", "medium", "slow"):
            for key, value in codecs._hardware_options(codec, kind, crf, preset).items():
                option = options[key]
                if option.choices and not value.lstrip("-").isdigit():
                    assert value.lstrip("+") in {choice.name for choice in option.choices}
                elif value.isdigit():
                    assert option.min <= int(value) <= option.max, (key, value)
