"""What people really hand in: a clear line and status 2, or the right film; nothing lost, nothing left lying about."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from clips import data, make_clip, video_times
from conftest import skip_or_fail

from streamstyle import cli, pipeline
from streamstyle.frames import FrameBatch
from streamstyle.media.probe import probe
from streamstyle.nets import weights
from streamstyle.objects.object_warnings import nobody_warning
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached")]
FAST = ("--preset", "ultrafast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=8)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After each test: no temporary file, and SIGTERM's handler is pytest's again."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line a command line is refused with."""
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("streamstyle: ")
    assert err.count("\n") == 1
    return err


def job(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """The JSON of a run that goes well; its warnings are also said on stderr, and nothing else is."""
    capsys.readouterr()
    status = cli.main(["run", *(str(word) for word in words), "--json", *FAST])
    out, err = capsys.readouterr()
    assert status == 0, err
    said = json.loads(out.splitlines()[-1])
    assert err == "".join(f"warning: {line}\n" for line in said["warnings"])
    return said  # type: ignore[no-any-return]


# -- IN -------------------------------------------------------------------------------------------------------------


def _sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        frame = AudioFrame.from_ndarray(np.zeros((1, 1024 * 2), np.int16), "s16", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def _no_frames(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=30)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


NOT_FILMS = {
    "missing": (lambda at: at / "missing.mp4", "no such file; check the name"),
    "folder": (lambda at: at, "a folder without pictures (folders in it do not count); give a video file"),
    "text": (lambda at: _written(at / "notes.txt", b"a shopping list\n" * 40), "give a video file"),
    "text-as-mp4": (lambda at: _written(at / "notes.mp4", b"a shopping list\n" * 40), "give a video file"),
    "empty": (lambda at: _written(at / "empty.mp4", b""), "give a video file"),
    "noise": (lambda at: _written(at / "noise.mp4", np.random.default_rng(0).bytes(4096)), "give a video file"),
    "sound": (lambda at: _sound_only(at / "sound.m4a"), "has sound but no video; give a file with a video track"),
    "no-frames": (lambda at: _no_frames(at / "none.mkv"), "give"),
    "link-to-nothing": (lambda at: _linked(at / "link.mp4", at / "gone.mp4"), "a link to nothing"),
    "header-only": (
        lambda at: _written(at / "cut.mp4", make_clip(at / "whole.mp4", frames=4).read_bytes()[:200]),
        "give a video file",
    ),
}


def _linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("what", NOT_FILMS)
@pytest.mark.parametrize("command", ["run", "preview"])
def test_what_is_no_film(capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str, command: str) -> None:
    make, said = NOT_FILMS[what]
    source = make(tmp_path)
    out = tmp_path / ("out.mp4" if command == "run" else "out.png")
    line = refusal(capsys, command, source, out, *(("--style", "wave") if command == "run" else ()))
    assert str(source) in line
    assert said in line
    assert not out.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_film(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    locked = shutil.copy(clip, tmp_path / "locked.mp4")
    locked.chmod(0)
    assert "permission denied" in refusal(capsys, "run", locked, tmp_path / "out.mp4", "--style", "wave")


def _index_first(source: Path, target: Path) -> Path:
    """The same film with its index before its frames, as on the web: cut short, it can still be opened."""
    with av.open(str(source)) as old, av.open(str(target), "w", options={"movflags": "faststart"}) as new:
        tracks = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream]
                new.mux(packet)
    return target


@pytest.mark.parametrize("look", [("--style", "none"), ("--background", "none", "--foreground", "wave")])
def test_a_film_cut_off_in_the_middle(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, look: tuple[str, ...]
) -> None:
    whole = _index_first(make_clip(tmp_path / "made.mp4", frames=30, gop=5), tmp_path / "whole.mp4")
    cut = _written(tmp_path / "cut.mp4", whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    said = job(capsys, cut, tmp_path / "out.mp4", *look)
    assert 8 < said["frames_in"] < 25  # type: ignore[operator]
    assert said["frames_out"] == said["frames_in"]
    assert f"input is truncated: {said['frames_in']} of 30 declared frames could be decoded" in said["warnings"]  # type: ignore[operator]
    assert len(video_times(tmp_path / "out.mp4")) == said["frames_out"]


def test_a_film_with_damaged_packets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    content = bytearray(make_clip(tmp_path / "made.ts", frames=30, audio=False).read_bytes())
    for at in range(len(content) // 3, len(content) // 2):
        content[at] ^= 0x5A
    said = job(capsys, _written(tmp_path / "bad.ts", bytes(content)), tmp_path / "out.mp4", "--style", "wave")
    assert 5 < said["frames_out"] < 30  # type: ignore[operator]
    times = video_times(tmp_path / "out.mp4")
    assert times == sorted(set(times))


def test_a_film_that_changes_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = make_clip(tmp_path / "a.ts", frames=6, audio=False)
    second = make_clip(tmp_path / "b.ts", frames=6, size=(96, 48), pts=range(6, 12), audio=False)
    both = _written(tmp_path / "in.ts", first.read_bytes() + second.read_bytes())
    for number, look in enumerate((("--style", "wave"), ("--background", "none", "--foreground", "wave"))):
        said = job(capsys, both, tmp_path / f"{number}.mp4", *look)
        assert (said["frames_out"], said["width"], said["height"]) == (12, 64, 48)
        assert any("6 frames had another size (96x48) and were fitted" in line for line in said["warnings"])  # type: ignore[attr-defined]


def test_who_goes_on_with_a_film_is_told_of_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of another size come first, and are painted by the run that is stopped."""
    first = make_clip(tmp_path / "a.ts", frames=1, audio=False)
    second = make_clip(tmp_path / "b.ts", frames=4, size=(96, 48), pts=range(1, 5), audio=False)
    third = make_clip(tmp_path / "c.ts", frames=9, pts=range(5, 14), audio=False)
    source = _written(tmp_path / "in.ts", first.read_bytes() + second.read_bytes() + third.read_bytes())
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (6, 6))
    whole = pipeline.stylize(source, tmp_path / "whole.mp4", look="wave")
    read, seen = Stylizer.read_batch, []

    def stopped(self: Stylizer, batch: FrameBatch, *rest: Any) -> Any:
        seen.append(batch.index + len(batch))
        if seen[-1] > 9:
            raise KeyboardInterrupt
        return read(self, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Stylizer, "read_batch", stopped)
        with pytest.raises(KeyboardInterrupt):
            pipeline.stylize(source, tmp_path / "out.mp4", look="wave", overlap=False)
    report = pipeline.stylize(source, tmp_path / "out.mp4", look="wave")
    assert report.resumed_frames == 6
    assert any("4 frames had another size (96x48) and were fitted" in line for line in whole.warnings)
    assert report.warnings == whole.warnings


@pytest.mark.parametrize("size", [(16, 16), (10, 8), (1, 1), (35, 21), (2, 200), (201, 3)])
@pytest.mark.parametrize("look", [("--style", "wave"), ("--background", "starry", "--foreground", "wave")])
def test_small_and_odd_films(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, size: tuple[int, int], look: tuple[str, ...]
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, size=size, pix_fmt="yuv444p")
    said = job(capsys, source, tmp_path / "out.mp4", *look)
    assert (said["frames_out"], said["width"], said["height"]) == (3, *size)
    assert said["warnings"] == [nobody_warning("appearance")] * ("--foreground" in look)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == size


def test_one_frame(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=1, audio=False)
    said = job(capsys, source, tmp_path / "out.mkv", "--background", "none", "--foreground", "wave")
    assert (said["frames_in"], said["frames_out"], said["audio"]) == (1, 1, "none")


def test_a_photo_is_a_film_of_one_frame(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import cv2
    from clips import draw

    cv2.imwrite(str(tmp_path / "photo.png"), draw(0, (64, 48)))
    assert job(capsys, tmp_path / "photo.png", tmp_path / "out.mp4", "--style", "wave")["frames_out"] == 1


@pytest.mark.parametrize(
    ("film", "frames"),
    [
        ("fate/h264_brokensps.mp4", 79),
        ("decord/corrupted.mp4", 49),
        ("moviepy/transparent.webm", 150),
        ("moviepy/pigs_in_a_polka.gif", 30),
        ("fate/mpeg4_packed_bframes.avi", 15),
        ("torchcodec/test_non_zero_start.mp4", 12),
        ("torchcodec/testsrc2_odd_height_and_width_444_10bit.mp4", 25),
    ],
)
def test_films_from_the_wild(capsys: pytest.CaptureFixture[str], tmp_path: Path, film: str, frames: int) -> None:
    said = job(
        capsys, data(f"videos/{film}"), tmp_path / "out.mp4", "--style", "none", "--foreground", "wave", "--size", 48
    )
    assert said["frames_out"] == frames


def test_8k(tmp_path: Path) -> None:
    """One style, one frame of 33 million pixels, in a process of its own: its memory is bounded by bands of rows."""
    source = tmp_path / "8k.mp4"
    with av.open(str(source), "w") as container:
        track = container.add_stream("libx264", rate=30)
        track.width, track.height, track.pix_fmt = 7680, 4320, "yuv420p"
        track.codec_context.options = {"preset": "ultrafast"}
        small = np.random.default_rng(0).integers(0, 256, (27, 48, 3), np.uint8)
        frame = VideoFrame.from_ndarray(small, "rgb24").reformat(7680, 4320, "yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 30)
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    words = ["run", str(source), str(tmp_path / "out.mp4"), "--style", "starry", "--json", *FAST]
    done = subprocess.run(
        [sys.executable, "-m", "streamstyle", *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["frames_out"], said["width"], said["height"]) == (1, 7680, 4320)
    assert said["peak_memory_bytes"] < 4 << 30


# -- OUT ------------------------------------------------------------------------------------------------------------


def test_an_output_that_must_not_be_touched(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    film = Path(shutil.copy(clip, tmp_path / "film.mp4"))
    link = _linked(tmp_path / "link.mp4", film)
    content = film.read_bytes()
    style = ("--style", "wave")
    assert "film.mp4: exists; add --overwrite" in refusal(capsys, "run", clip, film, *style)
    for out in (film, link):
        for more in ((), ("--overwrite",)):
            assert "is the input itself; give another name" in refusal(capsys, "run", film, out, *style, *more)
    assert film.read_bytes() == content
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("out.avi", "cannot write '.avi' files; end the name in one of .mp4"),
        ("out", "cannot write a file without an ending"),
        ("no/out.mp4", "does not exist; make it first"),
        ("folder.mp4", "is a folder; give a file name in it"),
        ("plain", "is a folder; give a file name in it"),
        (f"{'n' * 300}.mp4", "n.mp4: "),
    ],
)
def test_an_output_that_cannot_be(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "plain").mkdir()
    assert said in refusal(capsys, "run", clip, tmp_path / out, "--style", "wave")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "plain"]


def test_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root: another place where nobody may create a file
        folder = Path("/proc")
        if not folder.is_dir():
            pytest.skip("this user may write everywhere")
    line = refusal(capsys, "run", clip, folder / "out.mp4", "--style", "wave")
    assert f"{folder}/out.mp4: " in line


def test_a_full_disk(clip: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    old = _written(tmp_path / "out.mp4", b"the film that was here")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "streamstyle", "run", str(clip), str(old)),
            *("--style", "starry", "--overwrite", "--size", "96", "--crf", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    *before, last = done.stderr.splitlines()
    assert "the disk is full" in last
    assert [line for line in before if "painted frames cannot be kept" not in line] == []
    assert len(before) <= 1, "once a job, and only where they would have been kept before the film itself failed"
    assert old.read_bytes() == b"the film that was here"
    assert list(tmp_path.iterdir()) == [old]


def test_an_existing_film_stays_when_the_job_is_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    old = _written(tmp_path / "out.mp4", b"the film that was here")
    for words in (("--object", "x@63,47=wave"), ("--style", "wave", "--start", "9"), ("--style", "wav")):
        refusal(capsys, "run", clip, old, "--overwrite", *words)
        assert old.read_bytes() == b"the film that was here"


# -- objects and Looks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--object", "x@64,0=wave"), "object 'x' @64,0: outside the frame, which is 64x48 pixels"),
        (("--object", "x@60,44=wave"), "object 'x' @60,44: on no object, that is the background"),
        (("--object", "x@#0=wave"), "object 'x' @#0: no such region; the regions are #1 .. #"),
        (("--object", "x@#99=wave"), "object 'x' @#99: no such region"),
        (("--object", "x@4,9@9=wave"), "9 s is beyond the end; the film is 0.27 s long"),
        (("--object", "x@4,9@0.2=wave", "--duration", "0.1"), "after the part that is painted"),
        (("--style", "wave", "--start", "3"), "is beyond the end; the film is 0.27 s long"),
        (("--style", "wave", "--start", "3", "--dry-run"), "is beyond the end; the film is 0.27 s long"),
        (
            ("--style", "wave", "--hwaccel", "foo", "--dry-run"),
            "knows no such device; give one of off, auto",
        ),
        (
            ("--style", "wave", "--segmenter", "foo"),
            "no such segmenter; there are regions, components",
        ),
        (("--object", "-x@9,9=wave"), "what is taken out of an object takes no style; leave =wave out"),
        (("--background", "wave", "--foreground", "ember", "--statistics", "frame"), "--statistics frame"),
    ],
)
def test_what_the_film_does_not_have(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in refusal(capsys, "run", clip, tmp_path / "out.mp4", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("style = [", "not TOML"),
        ("shtyle = 'wave'", "unknown key 'shtyle'; a Look has style, background, foreground, [[object]]"),
        ("style = 'wav'", "unknown style 'wav'"),
        ("style = true", "unknown style"),
        ("", "no style given"),
        ("object = 3", "an [[object]] needs name, and one of point"),
        ("object = ['wave']", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'", "object 'a': where is it?"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\npoint = [1, 2]\nregion = 3", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\npoint = [1]", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\npoint = 'here'", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\npoint = [1, 2]\ncolour = 'red'", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\nregion = 1\nat_s = 'noon'", "an [[object]] needs name"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\npoint = [-1, 2]", "outside the frame"),
        ("[[object]]\nname = 'a'\nstyle = 'wave'\nregion = 1\nat_s = 9", "9 s is beyond the end"),
    ],
)
def test_a_look_file_that_says_nothing_sensible(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, text: str, said: str
) -> None:
    look = _written(tmp_path / "look.toml", text.encode())
    assert said in refusal(capsys, "run", clip, tmp_path / "out.mp4", "--look", look)


def test_a_look_that_is_no_file_of_words(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    for look, what in ((tmp_path, "a folder; give the Look file in it"), (clip, "not text in UTF-8; save it so")):
        assert what in refusal(capsys, "run", clip, tmp_path / "out.mp4", "--look", look)


# -- weights --------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache in which one byte of the painting network is wrong."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in weights.cache_dir().iterdir():
        if file.suffix != ".mp4":
            (folder / file.name).symlink_to(file)
    path = folder / weights.ASSETS["multistyle26"].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(folder))
    return path


def test_damaged_weights_are_never_parsed(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def offline(asset: weights.Asset, folder: Path, path: Path) -> Path:
        raise weights._unreachable(asset, path, "no network")

    monkeypatch.setattr(weights, "_download", offline)
    monkeypatch.setattr(safetensors.torch, "load", lambda content: pytest.fail("damaged bytes were parsed"))
    assert cli.main(["run", str(clip), str(tmp_path / "out.mp4"), "--style", "wave"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "is damaged in" in line
    assert "cannot be downloaded (no network)" in line
    assert "streamstyle weights --fetch" in line
    assert cli.main(["weights"]) == 0
    assert "corrupt" in capsys.readouterr().out


def test_damaged_weights_are_fetched_again(clip: Path, tmp_path: Path, damaged: Path) -> None:
    words = ["run", str(clip), str(tmp_path / "out.mp4"), "--style", "wave", "--quiet", *FAST]
    done = subprocess.run([sys.executable, "-m", "streamstyle", *words], capture_output=True, text=True, check=False)
    if done.returncode == 2 and "cannot be downloaded" in done.stderr:
        skip_or_fail("weights", done.stderr)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("fetching weights of the 26 painting styles")
    assert done.stderr.count("\n") == 1
    assert weights._cached(weights.ASSETS["multistyle26"], damaged) is not None
