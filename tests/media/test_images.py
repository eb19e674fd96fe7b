from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import draw, make_clip, video_times

from streamstyle.errors import DeviceError, InputError, OptionError
from streamstyle.frames import Checkpoint, picture_crc
from streamstyle.look import Look
from streamstyle.media.decode import decode, frame_at
from streamstyle.media.fingerprint import fingerprint
from streamstyle.media.images import TICKS, pictures_in
from streamstyle.media.probe import probe
from streamstyle.pipeline import stylize


@pytest.fixture
def folder(tmp_path) -> Path:
    return pictures(tmp_path / "pictures")


def pictures(at: Path, names=None, size: tuple[int, int] = (64, 48)) -> Path:
    """A folder of twelve pictures, 0.png .. 11.png, or of those names."""
    at.mkdir()
    for i, name in enumerate(names or [f"{i}.png" for i in range(12)]):
        cv2.imwrite(str(at / name), draw(i, size)[..., ::-1])
    return at


def numbers(frames) -> list[int]:
    """Which picture of the folder each frame is, by its time."""
    return [frame.pts / TICKS for frame in frames]


def test_pictures_come_in_the_order_a_person_counts(tmp_path):
    names = ["a1.jpg", "a2.JPG", "a10.jpeg", "b01.jpg", "b1.jpg", "b2.jpg"]
    folder = pictures(tmp_path / "in", names[::-1])
    (folder / "notes.txt").touch()
    (folder / ".hidden.jpg").touch()
    (folder / "old.jpg").mkdir()
    assert [path.name for path in pictures_in(folder)] == names


def test_a_folder_is_described_as_a_film(folder):
    info = probe(folder)
    assert (info.width, info.height, info.fps, info.frames, info.audio) == (64, 48, 25, 12, ())
    assert (info.time_base, info.start_pts, info.duration_s) == (Fraction(1, 25 * TICKS), 0, pytest.approx(0.48))
    assert probe(folder, fps=29.97).fps == Fraction(2997, 100)
    for fps in (0, 0.05, 2000, float("nan")):
        with pytest.raises(OptionError, match=r"--fps .*: must be from 0.1 to 1000"):
            probe(folder, fps=fps)
    with pytest.raises(InputError, match="no such file"):  # and not that it has a rate of its own
        probe(folder / "gone", fps=10)
    with pytest.raises(OptionError, match=r"--fps 10: .* has its own rate; leave it out"):
        probe(make_clip(folder / "a.mp4"), fps=10)


@pytest.mark.parametrize(
    ("suffix", "size"), [("png", (64, 48)), ("jpg", (64, 48)), ("jpg", (65, 49)), ("png", (65, 49))]
)
def test_frames_are_the_pictures(tmp_path, suffix, size):
    folder = pictures(tmp_path / "in", [f"{i}.{suffix}" for i in range(12)], size)
    frames = list(decode(probe(folder)))
    assert numbers(frames) == list(range(12))
    for i, frame in enumerate(frames):
        assert frame.y.shape == size[::-1]
        grey = cv2.cvtColor(draw(i, size), cv2.COLOR_RGB2GRAY).astype(float)
        luma = frame.y.astype(float) if suffix == "jpg" else (frame.y - 16.0) * 255 / 219
        assert np.abs(luma - grey).mean() < 3


def test_a_part_of_a_folder_and_what_follows_a_frame(folder):
    info = probe(folder, fps=10)
    assert numbers(decode(info, start_s=0.3, duration_s=0.4)) == [3, 4, 5, 6]
    assert numbers([frame_at(info, 0.55)]) == [5]
    sixth = frame_at(info, 0.6)
    after = Checkpoint(sixth.pts, picture_crc(sixth.y, sixth.u, sixth.v), {})
    assert numbers(decode(info, after=after)) == [7, 8, 9, 10, 11]
    assert next(decode(info, size=24)).y.shape == (24, 32)
    with pytest.raises(InputError, match="beyond the end"):
        frame_at(info, 1.3)


def test_what_is_no_film_of_pictures_is_refused_in_one_line(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    cases = {
        tmp_path / "empty": r"a folder without pictures \(folders in it do not count\); give a video file, or a folder"
    }
    mixed = pictures(tmp_path / "mixed", ["0.jpg", "0.png"])
    cases[mixed] = "holds JPEG and PNG pictures; give a folder with one kind"
    broken = pictures(tmp_path / "broken", ["0.png"])
    (broken / "0.png").write_bytes(b"a shopping list")
    cases[broken] = r"0.png: not a picture that can be read"
    for path, said in cases.items():
        with pytest.raises(InputError, match=said) as error:
            probe(path)
        assert "\n" not in str(error.value)


def test_a_picture_that_does_not_fit_is_named_when_it_comes(folder):
    cv2.imwrite(str(folder / "3.png"), draw(0, (32, 48))[..., ::-1])
    frames = decode(probe(folder))
    assert numbers(next(frames) for _ in range(3)) == [0, 1, 2]
    with pytest.raises(InputError, match=r"3.png: is 32x48, the first picture 64x48; bring all to one size"):
        next(frames)
    (folder / "3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"3.png: not a picture"):
        list(decode(probe(folder)))


def test_pictures_are_shown_upright(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "in").mkdir()
    turned = image.Exif()
    turned[0x0112] = 6  # shown turned clockwise
    for i in range(3):
        image.fromarray(draw(i, (64, 48))).save(tmp_path / "in" / f"{i}.jpg", exif=turned, quality=95)
    info = probe(tmp_path / "in")
    assert (info.width, info.height) == (48, 64)
    upright = cv2.cvtColor(np.rot90(draw(0, (64, 48)), -1), cv2.COLOR_RGB2GRAY).astype(float)
    assert np.abs(next(decode(info)).y - upright).mean() < 3
    image.fromarray(draw(2, (48, 64))).save(tmp_path / "in" / "2.jpg")  # upright in its file
    with pytest.raises(InputError, match=r"2.jpg: lies otherwise in its file"):
        list(decode(info))


def test_no_device_decodes_pictures(folder):
    assert len(list(decode(probe(folder), hwaccel="auto"))) == 12
    with pytest.raises(DeviceError, match="--hwaccel"):
        list(decode(probe(folder), hwaccel="cuda"))


def test_a_changed_folder_has_another_fingerprint(tmp_path, folder):
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "notes.txt").write_text("no picture")
    assert fingerprint(folder) == before
    data = bytearray((folder / "11.png").read_bytes())
    data[-1] ^= 1
    (folder / "11.png").write_bytes(data)
    assert fingerprint(folder)["blake2b"] != before["blake2b"]
    (folder / "11.png").unlink()
    assert fingerprint(folder)["size_bytes"] < before["size_bytes"]
    one = pictures(tmp_path / "one", ["0.png"])
    assert fingerprint(one)["size_bytes"] == (one / "0.png").stat().st_size


def test_a_folder_becomes_a_film(tmp_path, folder, networks):
    report = stylize(folder, tmp_path / "out.mp4", look=Look("none"))
    assert (report.frames_out, report.audio) == (12, "none")
    assert video_times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(12)]
