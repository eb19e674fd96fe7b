"""What a command may not write, or cannot read, is told at once: before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clips import make_clip

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.plan import check_picture, plan

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
        (["run", "{clip}", "out.mp4", "--style", "wave", "--start", "9"], "{clip}: 9 s is beyond the end"),
        (["run", "{clip}", "out.mp4", "--style", "wave", "--encoder", "none"], "--encoder none: "),
        (["run", "{clip}", "out.mp4", "--project", "film.sstyle"], "film.sstyle: no such project"),
        (["run", "", "out.mp4", "--style", "wave"], "IN is empty: a shell variable that is not set?"),
        (["run", "{clip}", "out.mp4", "--style", "wave", "--layers", ""], "--layers is empty: a shell variable"),
        (["run", "{clip}", "out.mp4", "--style", "wave", "--save-project="], "--save-project is empty: a shell"),
        (["preview", "{clip}", ""], "OUT.png is empty: a shell variable that is not set?"),
        (["tracks", "{clip}", "--out="], "--out is empty: a shell variable that is not set?"),
        (["preview", ".", "there.png", "--object", ""], "--object"),
        (["run", "{clip}", "out.mp4", "--style", "wave", "--layers", "out.mp4"], "--layers out.mp4: is OUT, or in it"),
        (["styles", "--sheet", "there.png"], "there.png: exists; add --overwrite"),
        (["styles", "--sheet", "out.gif"], "out.gif: a contact sheet is a picture; give it the ending .png"),
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
    assert done.stderr.startswith(f"streamstyle: {said.format(clip=clip)}")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"there.mp4", "there.png"}


@pytest.mark.parametrize(
    ("layers", "project", "said"),
    [
        ("out.mp4", None, "--layers {}/out.mp4: is OUT, or in it"),
        ("out.mp4.parts", None, "--layers {}/out.mp4.parts: is the work folder of OUT, or in it"),
        ("out.mp4.parts/000000", None, "--layers {}/out.mp4.parts/000000: is the work folder of OUT, or in it"),
        (None, "out.mp4", "--save-project {}/out.mp4: is OUT, or in it"),
        (None, "out.mp4.parts", "--save-project {}/out.mp4.parts: is the work folder of OUT, or in it"),
        (None, ".", "{}/out.mp4: is to be in the folder of --save-project, which is replaced as a whole"),
        ("same", "same", "--layers {}/same: is to be in the folder of --save-project, which is replaced as a whole"),
        ("film/a/b", "film", "--layers {}/film/a/b: is to be in the folder of --save-project, which is replaced"),
        (".", None, None),
        (".", "film", None),
        ("layers", "layers/film", None),
        ("layers", "film", None),
    ],
)
def test_no_place_takes_anothers(
    clip: Path, tmp_path: Path, layers: str | None, project: str | None, said: str | None
) -> None:
    out = OutputOptions(layers=None if layers is None else tmp_path / layers)
    saved = None if project is None else tmp_path / project
    if said is None:
        assert plan(clip, tmp_path / "out.mp4", out, saved).target == tmp_path / "out.mp4"
        return
    with pytest.raises(OutputError) as refused:
        plan(clip, tmp_path / "out.mp4", out, saved)
    assert str(refused.value).startswith(said.format(tmp_path))
    assert str(refused.value).endswith("; choose another place")


def test_torch_is_what_is_missing_there(clip: Path, tmp_path: Path) -> None:
    """The check above can fail: a job that is not refused wants torch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "run", str(clip), str(tmp_path / "out.mp4"), "--style", "wave"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: torch is not to be had" in done.stderr


def test_where_a_picture_may_go(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"")
    check_picture(clip, tmp_path / "out.PNG", False)
    check_picture(None, tmp_path / "there.png", True)
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        check_picture(clip, tmp_path / "there.png", False)
    with pytest.raises(OutputError, match="is the input itself"):
        check_picture(tmp_path / "there.png", tmp_path / "there.png", True)
    with pytest.raises(OutputError, match="does not exist; make it first"):
        check_picture(clip, tmp_path / "gone" / "out.png", False)
    with pytest.raises(OutputError, match="would be a picture of the folder it is made from"):
        check_picture(tmp_path, tmp_path / "objects.png", True)
    with pytest.raises(OptionError, match=r"out\.gif: a contact sheet is a picture; give it the ending \.png"):
        check_picture(clip, tmp_path / "out.gif", True, "contact sheet")
