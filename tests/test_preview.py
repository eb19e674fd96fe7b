"""The picture of a frame's objects, and the list that goes with it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import draw, make_clip
from moving_disc import FAINT, disc_in, make_faint_disc, make_moving_disc

from streamstyle import cli
from streamstyle.config import AnalysisOptions, Options
from streamstyle.errors import InputError, OptionError, OutputError
from streamstyle.preview import FOUND_COLOR, preview, words_of
from streamstyle.sheets import caption, contact_sheet, film_frame, read_picture, write_png
from streamstyle.styles import Style

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached")]
SIZE = (160, 120)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=12, size=SIZE, audio=False)


def test_picture_and_list(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "objects.png"
    assert cli.main(["preview", str(clip), str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == preview(clip, out, overwrite=True)
    assert set(said) == {"input", "output", "at_s", "width", "height", "objects", "moving"}
    assert (said["width"], said["height"]) == SIZE
    objects = said["objects"]
    assert sorted(thing["number"] for thing in objects) == list(range(1, len(objects) + 1))
    assert objects == sorted(objects, key=lambda thing: -thing["area_px"])
    for thing in objects:
        (x0, y0, x1, y1), (x, y) = thing["box_xyxy"], thing["point"]
        assert 0 <= x0 <= x < x1 <= SIZE[0]
        assert 0 <= y0 <= y < y1 <= SIZE[1]
        assert 0 < thing["area_px"] <= (x1 - x0) * (y1 - y0)
    picture = cv2.imread(str(out))
    scale = 3  # small films are shown larger
    assert picture.shape[0] == SIZE[1] * scale
    assert 2 * SIZE[0] * scale < picture.shape[1] <= 2 * SIZE[0] * scale + 20
    left = picture[:, : SIZE[0] * scale, ::-1].astype(int)
    shown = cv2.resize(draw(0, SIZE), (SIZE[0] * scale, SIZE[1] * scale), interpolation=cv2.INTER_CUBIC)
    assert np.abs(left - shown).mean() < 8


def test_the_disc_is_an_object(clip: Path, tmp_path: Path) -> None:
    for at_s, index in ((0.0, 0), (0.2, 6), (0.21, 6), (0.366, 10)):
        found = preview(clip, tmp_path / f"objects{at_s}.png", at_s=at_s)
        centre = SIZE[0] * (0.2 + 0.6 * index / 24), SIZE[1] / 2
        disc = min(found["objects"], key=lambda o: np.hypot(o["point"][0] - centre[0], o["point"][1] - centre[1]))
        assert np.hypot(disc["point"][0] - centre[0], disc["point"][1] - centre[1]) < 12
        assert 0.5 < disc["area_px"] / (np.pi * 30**2) < 2


def test_without_json_an_example_to_paste_is_given(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "objects.png"
    assert cli.main(["preview", str(clip), str(out), "--at", "0.2"]) == 0
    said, err = capsys.readouterr()
    assert said == ""
    (line,) = (line for line in err.splitlines() if "--object" in line)
    for word in line.replace("or", "").split("--object")[1:]:
        arguments = ["run", str(clip), str(tmp_path / "o.mp4"), "--dry-run", "--object", word.strip().strip('"')]
        assert cli.main(arguments) == 0


def test_with_styles_the_frame_is_shown_painted_as_run_paints_it(clip: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "look.png", ["--background", "none", "--object", "disc@35,60=wave"]
    assert cli.main(["preview", str(clip), str(out), "--at", "0.3", *words]) == 0
    third = SIZE[0] * 3
    picture = cv2.imread(str(out))[:, :, ::-1]
    before, after = picture[:, :third].astype(int), picture[:, -third:].astype(int)
    change = np.abs(after - before).max(2) > 40
    x = round(SIZE[0] * (0.2 + 0.6 * 9 / 24)) * 3
    assert change[150:210, x - 40 : x + 40].mean() > 0.5  # the disc, where it is by then
    assert change[:, : x - 150].mean() < 0.02  # and nothing else
    film = tmp_path / "out.mp4"
    assert cli.main(["run", str(clip), str(film), *words, "--crf", "1", "--quiet"]) == 0
    shown = cv2.resize(film_frame(film, 0.3), (third, SIZE[1] * 3), interpolation=cv2.INTER_CUBIC).astype(int)
    assert np.abs(shown - after).mean() < 6


def test_a_painted_preview_that_cannot_be_made(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--style", "gone.jpg"], "gone.jpg: no such file"),
        (["--background", "none", "--object", "disc@500,60=wave"], "outside the frame"),
    ):
        assert cli.main(["preview", str(clip), str(tmp_path / "o.png"), *words]) == 2
        _, err = capsys.readouterr()
        assert said in err
        assert err.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_no_objects_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=1, size=(1, 1), pix_fmt="yuv444p", audio=False)
    assert cli.main(["preview", str(source), str(tmp_path / "o.png")]) == 0
    assert "no objects; try another --edge-side" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(1, 1), (10, 8), (35, 21), (800, 16)])
@pytest.mark.parametrize("segmenter", ["regions", "components"])
def test_any_size(tmp_path: Path, size: tuple[int, int], segmenter: str) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=1, size=size, pix_fmt="yuv444p", audio=False)
    found = preview(source, tmp_path / "o.png", options=Options(AnalysisOptions(segmenter=segmenter)))  # type: ignore[arg-type]
    assert (found["width"], found["height"]) == size
    assert cv2.imread(str(tmp_path / "o.png")) is not None
    assert all(0 <= o["point"][0] < size[0] and 0 <= o["point"][1] < size[1] for o in found["objects"])


def test_a_picture_that_is_there_is_replaced_only_when_told(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "there.png"
    for words in (["preview", str(clip), str(out)], ["styles", "--sheet", str(out), "--on", str(clip)]):
        out.write_text("mine")
        assert cli.main(words) == 2
        assert capsys.readouterr() == ("", f"streamstyle: {out}: exists; add --overwrite\n")
        assert out.read_text() == "mine"
        assert cli.main([*words, "--overwrite"]) == 0
        assert read_picture(out).ndim == 3
        capsys.readouterr()


def test_a_turned_film_is_shown_upright(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, size=(64, 48), rotation=90, audio=False)
    found = preview(source, tmp_path / "o.png")
    assert (found["width"], found["height"]) == (48, 64)


def test_refusals(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"o\.jpg: a preview is a picture; give it the ending \.png"):
        preview(clip, tmp_path / "o.jpg")
    with pytest.raises(InputError, match=r"9 s is beyond the end; the film is 0.40 s long"):
        preview(clip, tmp_path / "o.png", at_s=9)
    with pytest.raises(InputError, match="no such file"):
        preview(tmp_path / "missing.mp4", tmp_path / "o.png")
    with pytest.raises(OutputError, match="does not exist; make it first"):
        preview(clip, tmp_path / "no" / "o.png")
    assert not list(tmp_path.iterdir())


def test_pictures_are_written_and_read_back(tmp_path: Path, clip: Path) -> None:
    rgb = draw(2, (35, 21))
    write_png(tmp_path / "a.png", rgb)
    assert np.array_equal(read_picture(tmp_path / "a.png"), rgb)
    assert np.abs(read_picture(clip).astype(int) - draw(0, SIZE)).mean() < 6  # a film's first frame
    (tmp_path / "empty.png").touch()
    for wrong in ("empty.png", "missing.png"):
        with pytest.raises(InputError):
            read_picture(tmp_path / wrong)


def test_contact_sheet() -> None:
    tiles = [(str(i), draw(i, (64, 48))) for i in range(7)]
    assert contact_sheet(tiles, columns=3, width_px=64).shape == (3 * (48 + 26 + 8) + 8, 3 * (64 + 8) + 8, 3)
    assert contact_sheet(tiles[:1], width_px=64).shape == (48 + 26 + 8 + 8, 64 + 8 + 8, 3)


def test_a_caption_of_a_sheet_is_whole_and_keeps_to_its_tile() -> None:
    name = (
        "70% mondrian.jpg + 30% wave; strength=0.6; keep-colors; scale=2; and_a_word_much_wider_than_the_whole_tile" * 2
    )
    tiles = [(text, np.full((48, 64, 3), 255, np.uint8)) for text in (name, "a")]
    sheet = contact_sheet(tiles, width_px=120)
    first, second, between = sheet[:, 8:128], sheet[:, 136:256], sheet[:, 128:136]
    assert (between == 255).all()
    lines = [(picture[98:].min((1, 2)) < 128).nonzero()[0].max() for picture in (first, second)]
    assert lines[0] > lines[1] + 60


def test_a_style_is_captioned_by_what_it_is() -> None:
    def captions(text: str) -> list[str]:
        style = Style.parse(text)
        return [caption(style, key) for key in style.keys]

    assert captions("art/night.jpg:7+wave:3; strength=0.6; keep-colors") == [
        "70% night.jpg + 30% wave; strength=0.6; keep-colors"
    ]
    assert captions("none@2 > 'my; art/a+b.png'#1,2,30,40@4") == ["none", "a+b.png #1,2,30,40"]
    assert captions("nets/candy.safetensors; scale=2") == ["candy.safetensors; scale=2"]


def test_a_folder_of_pictures_has_the_rate_that_is_given(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    for k in range(4):
        write_png(folder / f"{k}.png", draw(k, SIZE))
    output, at = tmp_path / "o.png", ["--at", "1.5", "--overwrite", "--json"]
    assert cli.main(["preview", str(folder), str(output), *at, "--fps", "2"]) == 0
    left = cv2.cvtColor(cv2.imread(str(output)), cv2.COLOR_BGR2RGB)[1::3, 1 : SIZE[0] * 3 : 3]
    differences = [np.abs(left.astype(int) - draw(k, SIZE)).mean() for k in range(4)]
    assert int(np.argmin(differences)) == 3
    assert cli.main(["preview", str(folder), str(output), *at]) == 2  # at 25 a second there is no such time
    with pytest.raises(OptionError, match="fps"):
        preview(clip, output, fps=2, overwrite=True)


# -- what moves by itself ---------------------------------------------------------------------------------------------


def share(picture: np.ndarray, where: np.ndarray) -> float:
    """Share of the right half's pixels there, of the film's [H, W] bool, that have the outline's colour."""
    right = picture[:, -SIZE[0] * 3 :, ::-1]
    large = cv2.resize(where.astype(np.uint8), (SIZE[0] * 3, SIZE[1] * 3), interpolation=cv2.INTER_NEAREST) > 0
    return float((right == FOUND_COLOR).all(-1)[large].mean())


@pytest.mark.parametrize("at_s", [0.0, 0.12])
def test_a_disc_that_moves_is_foreground_and_outlined(tmp_path: Path, at_s: float) -> None:
    film, i = make_moving_disc(tmp_path / "film", 10), round(at_s * 25)
    found = preview(film, tmp_path / "o.png", at_s=at_s)["objects"]
    inside = [thing for thing in found if disc_in(i)[thing["point"][1], thing["point"][0]]]
    assert inside
    assert [thing for thing in found if thing["foreground"]] == inside
    edge = cv2.morphologyEx(disc_in(i).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    assert share(cv2.imread(str(tmp_path / "o.png")), edge) > 0.15
    assert share(cv2.imread(str(tmp_path / "o.png")), ~edge) < 0.02


@pytest.mark.parametrize(("step_px", "frames"), [(0, 10), (3, 1)])
def test_nothing_is_foreground_where_nothing_moves(tmp_path: Path, step_px: int, frames: int) -> None:
    film = make_moving_disc(tmp_path / "film", frames, step_px=step_px)
    found = preview(film, tmp_path / "o.png")["objects"]
    assert found
    assert not any(thing["foreground"] for thing in found)
    assert share(cv2.imread(str(tmp_path / "o.png")), np.ones(SIZE[::-1], bool)) == 0


def test_where_objects_are_followed_by_overlap_all_are_foreground(tmp_path: Path) -> None:
    film = make_moving_disc(tmp_path / "film", 2)
    found = preview(film, tmp_path / "o.png", options=Options(AnalysisOptions(tracker="overlap")))["objects"]
    assert found
    assert all(thing["foreground"] for thing in found)


@pytest.mark.parametrize("at_s", [0.0, 0.12])
def test_what_moves_on_no_region_is_told_with_a_point_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], at_s: float
) -> None:
    film, out, i = make_faint_disc(tmp_path / "film", 10), tmp_path / "o.png", round(at_s * 25)
    words = ["preview", str(film), str(out), "--at", str(at_s)]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (moving,), (x, y) = found["moving"], found["moving"][0]["point"]
    assert found["objects"] == []
    assert disc_in(i, FAINT, 6)[y, x]
    least = 0.5 if i else 0.25  # of a flat disc on flat ground the first frame shows a part
    assert least < moving["area_px"] / disc_in(i, FAINT, 6).sum() < 1.2
    place = f"name@{x},{y}@{at_s:g}=" if at_s else f"name@{x},{y}="
    painted = ["--object", f"{place}starry", "--background", "none"]
    assert cli.main([*words, *painted, "--overwrite"]) == 0
    assert f'--object "{place}starry"' in capsys.readouterr().err
    picture = cv2.imread(str(out))[::2, ::2].astype(int)
    change = np.abs(picture[:, -FAINT[0] :] - picture[:, : FAINT[0]]).max(2) > 25
    assert change[disc_in(i, FAINT, 6)].mean() > least
    assert change[~disc_in(i, FAINT, 6)].mean() < 0.02


@pytest.mark.parametrize(("moving_share", "told"), [(0.3, True), (0.02, False), (0.5, False)])
def test_a_region_that_reaches_far_beyond_what_moves_is_told_and_moves_make_the_example(moving_share, told) -> None:
    shares = (("1", 0.0, 900), ("2", moving_share, 400), ("3", 0.9, 100))
    objects = [
        {"number": int(k), "moving_share": part, "foreground": part >= 0.5, "area_px": px, "point": (int(k), 5)}
        for k, part, px in shares
    ]
    lines = words_of({"output": "o.png", "at_s": 0.0, "objects": objects, "moving": []})
    assert ("what moves is only a part of #2, and a click there names all of it" in lines[-1]) == told
    largest = 2 if moving_share >= 0.5 else 3
    assert lines[1] == f'  --object "name@#{largest}=starry"   or   --object "name@{largest},5=starry"'


def test_what_moves_and_has_a_region_is_told_once(tmp_path: Path) -> None:
    found = preview(make_moving_disc(tmp_path / "film", 10), tmp_path / "o.png")
    assert any(thing["foreground"] for thing in found["objects"])
    assert found["moving"] == []
