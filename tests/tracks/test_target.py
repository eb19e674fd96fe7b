"""What tracks are written as, and where they may be."""

import numpy as np
import pytest
from clips import make_clip

from streamstyle.errors import InputError, OptionError, OutputError
from streamstyle.sheets import write_png
from streamstyle.tracks.target import check_tracks, kind_of


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=2, size=(64, 48))


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        ("masks/%05d.png", "masks"),
        ("m-%d.PNG", "masks"),
        ("a.mp4", "film"),
        ("a.MOV", "film"),
        ("a.mkv", "film"),
        ("a.npz", "labels"),
    ],
)
def test_the_ending_says_what(out, kind):
    assert kind_of(out) == kind


@pytest.mark.parametrize(
    "out", ["a.png", "%d-%d.png", "%s.png", "100%_%d.png", "a.gif", "a", "%05d.jpg", "%d/a.png", "%5d.png", "%0d.png"]
)
def test_an_ending_that_says_nothing_is_refused(out):
    with pytest.raises(OutputError, match=r"not a kind of tracks; give masks/%05d.png"):
        kind_of(out)


@pytest.mark.parametrize("out", ["out.mp4", "labels.npz"])
def test_what_is_there_is_kept_unless_asked(tmp_path, clip, out):
    (tmp_path / out).write_text("mine")
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        check_tracks(clip, tmp_path / out, False)
    check_tracks(clip, tmp_path / out, True)


def test_places_that_cannot_be_are_refused_first(tmp_path, clip):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    write_png(pictures / "00000.png", np.zeros((48, 64, 3), np.uint8))
    for out in ("gone/labels.npz", "gone/out.mp4", "gone/masks/%05d.png"):
        with pytest.raises(OutputError, match="does not exist; make it first"):
            check_tracks(clip, tmp_path / out, False)
    with pytest.raises(OutputError, match="is the input itself; give another"):
        check_tracks(pictures, pictures / "%05d.png", True)
    with pytest.raises(OutputError, match="is the input itself"):
        check_tracks(clip, clip, True)


def test_a_film_there_must_be(tmp_path, clip):
    assert check_tracks(clip, tmp_path / "labels.npz", False).path == str(clip)
    with pytest.raises(InputError, match="no such file"):
        check_tracks(tmp_path / "none.mp4", tmp_path / "labels.npz", False)
    with pytest.raises(OptionError, match="--fps"):
        check_tracks(clip, tmp_path / "labels.npz", False, 25.0)
