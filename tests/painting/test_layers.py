"""``run --layers``: a painted film and its layers, from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from moving_disc import disc_in, make_moving_disc

from streamstyle import cli
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.look import Look, ObjectStyle
from streamstyle.pipeline import stylize
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
FRAMES = 12
DISC = ObjectStyle("Background", "starry", (56, 60))  # called as the layer of all else is, to some file systems
LOOK = Look(background="wave", objects=(DISC,))


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moving_disc(tmp_path_factory.mktemp("film") / "in", FRAMES)


def options(folder: Path | None, kind: str = "png", **more: object) -> Options:
    output = OutputOptions(preset="ultrafast", crf=0, layers=folder, layer_format=kind, **more)  # type: ignore[arg-type]
    return Options(output=output)


def pictures(folder: Path) -> np.ndarray:
    """[N, H, W, 4] BGRA."""
    return np.stack([cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(folder.iterdir())])


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def test_the_layers_are_the_film_cut_along_its_objects(disc: Path, tmp_path: Path) -> None:
    report = stylize(disc, tmp_path / "out.mp4", look=LOOK, options=options(tmp_path / "layers"))
    told = [(layer.name, Path(layer.file).name, layer.frames) for layer in report.layers]
    assert told[0::2] == [("background", "background", FRAMES), ("Background", "Background-2", FRAMES)]
    assert told[1][:2] == ("foreground", "foreground")
    assert "layers" in report.queues
    ground, rest, thing = (pictures(Path(layer.file)) for layer in report.layers)
    alphas = [layer[..., 3].astype(int) for layer in (ground, rest, thing)]
    assert (sum(alphas) == 255).all()
    for i in range(FRAMES):
        assert thing[i][disc_in(i), 3].mean() > 200
        assert thing[i][~disc_in(i), 3].mean() < 25
    plain = stylize(disc, tmp_path / "plain.mp4", look=LOOK, options=options(None))
    assert plain.layers == ()
    assert (tmp_path / "plain.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    with av.open(str(tmp_path / "out.mp4")) as container:
        for i, frame in enumerate(container.decode(video=0)):
            film = frame.to_ndarray(format="bgr24").astype(float)
            added = sum(layer[i, ..., :3] * (layer[i, ..., 3:] / 255) for layer in (ground, rest, thing))
            assert np.abs(added - film).mean() < 4  # to_ndarray's quick conversion


@pytest.mark.parametrize("kind", ["prores", "vp9", "png"])
def test_from_the_command_line(
    disc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "run",
        str(disc),
        "out.mp4",
        "--background",
        "none",
        "--foreground",
        "ember",
        "--object",
        "it@56,60=wave",
        "--preset",
        "ultrafast",
    ]
    words += ["--layers", "cut", "--layer-format", kind, "--start", "0.1", "--duration", "0.2"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert cli.main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    suffix = {"prores": ".mov", "vp9": ".webm", "png": ""}[kind]
    assert [layer["file"] for layer in said["layers"]] == [
        f"cut/{n}{suffix}" for n in ("background", "foreground", "it")
    ]
    assert [layer["frames"] for layer in said["layers"]][::2] == [said["frames_out"]] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "cut"}
    assert len(list((tmp_path / "cut").iterdir())) == 3
    assert cli.main([*words, "--overwrite"]) == 0
    (tmp_path / "out.mp4").unlink()
    assert cli.main(words) == 2
    assert "add --overwrite" in capsys.readouterr().err.splitlines()[-1]


def test_what_is_missing_is_only_what_could_not_be_there(disc: Path, tmp_path: Path) -> None:
    look = Look(background="none", foreground="none", objects=(ObjectStyle("it", "wave", (56, 60)),))
    report = stylize(disc, tmp_path / "out.mp4", look=look, options=options(tmp_path / "layers", duration=0.1))
    assert [layer.name for layer in report.layers] == ["background", "it"]  # nobody looks for others
    overlap = Options(AnalysisOptions(tracker="overlap"), output=options(tmp_path / "more", overwrite=True).output)
    report = stylize(disc, tmp_path / "out.mp4", look=look, options=overlap)
    assert [layer.name for layer in report.layers] == ["background", "foreground", "it"]


@pytest.mark.parametrize(
    "look", [Look(style="wave"), Look(style="none", objects=(ObjectStyle("it", "none", (56, 60)),))]
)
def test_one_layer_is_refused(disc: Path, tmp_path: Path, look: Look) -> None:
    with pytest.raises(OptionError, match="--layers: there is but one layer"):
        stylize(disc, tmp_path / "out.mp4", look=look, options=options(tmp_path / "layers"))
    assert list(tmp_path.iterdir()) == []


def test_too_many_are_refused() -> None:
    objects = tuple(ObjectStyle(f"it {i}", "wave", (40 + i, 60)) for i in range(31))
    with pytest.raises(OptionError, match="33 layers; name at most 30 objects"):
        Stylizer(Look(background="none", objects=objects)).cut_layers()


def test_no_layer_replaces_the_film(disc: Path, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    film = tmp_path / "layers" / "background.mov"
    with pytest.raises(OutputError, match="a layer is to be written there"):
        stylize(disc, film, look=LOOK, options=options(tmp_path / "layers", "prores"))
