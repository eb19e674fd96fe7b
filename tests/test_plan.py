"""What a command may not write, or cannot read, is told at once: before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from streamstyle.errors import InputError, OptionError, OutputError
from streamstyle.plan import check_picture, check_tracks, kind_of
from streamstyle.sheets import write_png

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError("torch is not to be had")

sys.meta_path.insert(0, Refuse())
from streamstyle.cli import main

sys.exit(main())
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=6, size=(160, 120))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "{clip}", "there.mp4", "--style", "wave"], "there.mp4: exists; add --overwrite"),
        (["run", "{clip}", "out.mp4", "--style", "wvae"], "unknown style 'wvae': did you mean wave?"),
        (["run", "{clip}", "out.avi", "--style", "wave"], "out.avi: cannot write '.avi' files"),
        (["run", "none.mp4", "there.mp4", "--style", "wave"], "none.mp4: no such file; check the name"),
        (["run", "{clip}", "there.mp4", "--project", "film.sstyle"], "there.mp4: exists; add --overwrite"),
        (["preview", "{clip}", "there.png"], "there.png: exists; add --overwrite"),
        (["preview", "{clip}", "out.mp4"], "out.mp4: a preview is a picture; give it the ending .png"),
        (["preview", "none.mp4", "there.png"], "none.mp4: no such file; check the name"),
        (["tracks", "{clip}", "--out", "there.mp4"], "there.mp4: exists; add --overwrite"),
        (["tracks", "{clip}", "--out", "labels.txt"], "labels.txt: not a kind of tracks; give masks/%05d.png"),
        (["tracks", "none.mp4", "--out", "there.mp4"], "none.mp4: no such file; check the name"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_refused_before_torch_is_imported(clip: Path, tmp_path: Path, words: list[str], said: str) -> None:
    for name in ("there.mp4", "there.png"):
        (tmp_path / name).write_bytes(b"")
    given = [word.format(clip=clip) for word in words]
    command = [sys.executable, "-c", WITHOUT_TORCH, *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"streamstyle: {said}")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"there.mp4", "there.png"}


def test_torch_is_what_is_missing_there(clip: Path, tmp_path: Path) -> None:
    """The check above can fail: a job that is not refused wants torch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "run", str(clip), str(tmp_path / "out.mp4"), "--style", "wave"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: torch is not to be had" in done.stderr


def test_what_is_no_fault_is_told_of_the_film(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"")
    for info in (
        check_picture(clip, tmp_path / "out.PNG", False),
        check_picture(clip, tmp_path / "there.png", True),
        check_tracks(clip, tmp_path / "labels.npz", False),
    ):
        assert info.path == str(clip)
    with pytest.raises(OutputError, match="is the input itself"):
        check_tracks(clip, clip, True)
    with pytest.raises(OptionError, match="--fps"):
        check_picture(clip, tmp_path / "out.png", False, 25.0)
    with pytest.raises(InputError, match="no such file"):
        check_picture(tmp_path / "none.mp4", tmp_path / "out.png", False)


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


@pytest.mark.parametrize("out", ["a.png", "%d-%d.png", "%s.png", "100%_%d.png", "a.gif", "a", "%05d.jpg", "%d/a.png"])
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
