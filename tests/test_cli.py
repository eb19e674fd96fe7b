"""The command line: what is said to whom, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from clips import draw, draw_mottled, make_clip

import streamstyle
from streamstyle import cli
from streamstyle.arguments import options_of
from streamstyle.look import Look, ObjectStyle
from streamstyle.nets import weights
from streamstyle.styles import STYLES

FAST = ("--preset", "ultrafast")
JSON_KEYS = {
    *("input", "output", "frames_in", "frames_out", "width", "height", "duration_s", "audio", "seconds", "fps"),
    *(
        "device",
        "objects",
        "layers",
        "calm",
        "project",
        "warnings",
        "peak_memory_bytes",
        "encoder",
        "resumed_frames",
        "first_frame_s",
        "busy",
        "queues",
    ),
}
OBJECT_KEYS = {"track_id", "name", "style", "first_frame", "last_frame", "mean_area_px"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=6)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """main() takes SIGTERM for Ctrl-C: pytest gets its own handler back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command line."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as left:  # tyro leaves so, after its own words
        status = left.code if isinstance(left.code, int) else 1
    out, err = capsys.readouterr()
    return status, out, err


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line a command line is refused with."""
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("streamstyle: ")
    assert err.count("\n") == 1
    return err


def python(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


# -- light to start -------------------------------------------------------------------------------------------------

HEAVY = ("torch", "av", "cv2", "kornia", "h5py", "onnx", "safetensors", "numpy")


@pytest.mark.parametrize(
    ("source", "heavy"),
    [
        ("import streamstyle", HEAVY),
        ("import streamstyle; dir(streamstyle); streamstyle.__version__; streamstyle.Look(style='wave')", HEAVY[:-1]),
        ("from streamstyle.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass", HEAVY[:-1]),
        ("from streamstyle.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass", HEAVY[:-1]),
        ("from streamstyle.cli import main; main(['--version'])", HEAVY[:-1]),
        ("from streamstyle.cli import main; main(['styles'])", HEAVY[:-1]),
        ("from streamstyle.cli import main; main(['run', 'a.mp4', 'b.mp4'])", HEAVY[:-1]),
    ],
    ids=["import", "names", "help", "run-help", "version", "styles", "nothing-said"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(source: str, heavy: tuple[str, ...]) -> None:
    done = python("-c", f"{source}\nimport sys; print('heavy:', [name for name in {heavy} if name in sys.modules])")
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_the_module_runs_as_a_program() -> None:
    done = python("-m", "streamstyle", "--version")
    assert (done.returncode, done.stdout) == (0, f"{streamstyle.__version__}\n")


# -- help and refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, err = call(capsys, *filter(None, [command]), "--help")
    assert (status, err) == (0, "")
    assert "usage: streamstyle" in out


@pytest.mark.parametrize("form", [["--object", "-swan@50,60@3"], ["--object=-swan@50,60@3"]])
def test_a_place_to_remove_is_no_option(form: list[str]) -> None:
    command = cli.parse(["run", "in.mp4", "out.mp4", "--object", "swan@3,4=wave", *form, "--background", "none"])
    assert isinstance(command, cli.Run)
    assert command.look.object == ("swan@3,4=wave", "-swan@50,60@3")
    assert Look.from_options(command.look).objects[1].remove


def test_nothing_said_is_answered_with_three_examples(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    line = refusal(capsys, "run", clip, "out.mp4")
    assert "no style given" in line
    assert all(part in line for part in ("--style starry", "--background wave --foreground ember", "--object"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--style", "stary"), "unknown style 'stary': did you mean starry"),
        (("--style", "26"), "26 styles by name or number 0..25"),
        (("--style", "-1"), "unknown style '-1'"),
        (("--background", ""), "a style is missing; name one"),
        (("--style", "wave", "--feather", "500"), "--feather 500.0: out of range; give 0 to 200 px"),
        (("--style", "wave", "--feather", "nan"), "--feather nan: out of range"),
        (("--style", "wave", "--size", "8"), "--size 8: out of range; give 16 to 8192 px"),
        (("--style", "wave", "--crf", "52"), "--crf 52: out of range"),
        (("--style", "wave", "--duration", "0"), "--duration 0.0: out of range"),
        (("--style", "wave", "--start", "-1"), "--start -1.0: out of range"),
        (("--style", "wave", "--analyse-every", "0"), "--analyse-every 0: out of range"),
        (("--style", "wave", "--size", "abc"), "--size abc: not a whole number; see `streamstyle run --help`"),
        (("--style", "wave", "--crf", "1.5"), "--crf 1.5: not a whole number"),
        (("--style", "wave", "--feather", "wide"), "--feather wide: not a number"),
        (("--style", "wave", "--analyse-every", "2.5"), "--analyse-every 2.5: not a whole number or auto"),
        (("--style", "wave", "--codec", "mpeg2"), "--codec mpeg2: unknown; give one of h264, hevc, av1, prores"),
        (("--style", "wave", "--start", "soon"), "--start soon: not a time; give seconds or [HH:]MM:SS"),
        (("--style", "wave", "--duration", "1:60"), "--duration 1:60: not a time"),
        (("--style", "wave", "--start", "1:60:00"), "--start 1:60:00: not a time"),
        (("--style", "wave", "--start=-0:30"), "--start -0:30: not a time"),
        (("--style", "wave", "--start", "0:0:0:1"), "--start 0:0:0:1: not a time"),
        (("--object", "swan"), '--object "swan": not understood; write NAME@X,Y=STYLE'),
        (("--object", "swan@1=wave"), "not understood"),
        (("--object", "swan@-1,4=wave"), "not understood"),
        (("--object", "@1,2=wave"), "not understood"),
        (("--object", "swan@1,2@=wave"), "not understood"),
        (("--object", "swan@1,2@-3=wave"), "not understood"),
        (("--object", "swan@1,2@1:75=wave"), '--object "swan@1,2@1:75=wave": 1:75: not a time; give seconds or'),
        (("--object", "swan@#x=wave"), "not understood"),
        (("--object", "swan@1,2="), "not understood"),
        (("--object", "swan@1,2=wav"), "unknown style 'wav': did you mean wave"),
        (("--object", "a@1,2=wave", "--object", "a@3,4=ember"), "object 'a' has two styles, wave and ember"),
        (("--style", "wave", "--save-look", "look.mp4"), "a Look is TOML; give it the ending .toml"),
        (("--look", "missing.toml"), "Look 'missing.toml': no such file"),
        (("--style", "wave", "--clam", "1"), "Unrecognized options: --clam; did you mean --calm; see `streamstyle"),
        (("--style", "wave", "--clam=1"), "Unrecognized options: --clam; did you mean --calm; see `streamstyle"),
        (("--bakground", "wave"), "did you mean --background; see"),
        (("--clam", "1", "--bakground", "wave"), "--clam, --bakground; did you mean --calm, --background; see"),
        (("--ovrwrite", "--keep_colors", "--style"), "Unrecognized options: --ovrwrite; did you mean --overwrite; see"),
        (("--style", "wave", "--crf"), "--crf needs a value; see `streamstyle run --help`"),
        (("-style", "wave"), "Unrecognized options: -style; did you mean --style; see `streamstyle run"),
        (
            ("--style", "wave", "--out", "more.mp4"),
            "Unrecognized options: --out; did you mean OUT, the word after IN; see",
        ),
        (("--style", "wave", "-o", "more.mp4"), "Unrecognized options: -o; did you mean OUT, the word after IN; see"),
        (("more.mp4", "--style", "wave"), "more.mp4: no place for so many words; see `streamstyle run --help`"),
        (("--style", "wave", "--xyzzy"), "Unrecognized options: --xyzzy; see `streamstyle run --help`"),
        (("--style", "wave", "--layer-format", "png"), "--layer-format: there are no layers; give --layers DIR, too"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in refusal(capsys, "run", clip, tmp_path / "out.mp4", *words)
    assert not list(tmp_path.iterdir())


def test_what_is_misspelt_is_told_before_what_is_missing_for_it(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    said = "Unrecognized options: --ot; did you mean --out; see `streamstyle tracks --help`"
    assert said in refusal(capsys, "tracks", clip, "--ot", "masks.npz")
    assert "-o; did you mean --out; see" in refusal(capsys, "tracks", clip, "-o", "masks.npz")


@pytest.mark.parametrize("name", ["-o", "--out", "--output"])
def test_what_other_programs_call_their_output_is_told(
    capsys: pytest.CaptureFixture[str], clip: Path, name: str
) -> None:
    said = {
        "run": "; did you mean OUT, the word after IN; see",
        "preview": "; did you mean OUT.png, the word after IN; see",
        "styles": "; did you mean --sheet; see",
        "bench": "; did you mean --plot; see",
    }
    for command in ("run", "preview", "doctor", "styles", "bench"):
        line = refusal(capsys, command, *[clip] * (command in ("run", "preview")), name, "x.png")
        assert f"Unrecognized options: {name}{said.get(command, '; see')}" in line


@pytest.mark.parametrize("words", [("--stle", "wave"), ("-x",), ("--version", "run")])
def test_options_come_after_a_command(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert f"streamstyle: {words[0]}: comes after a command; give one of run, " in refusal(capsys, *words)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_options_that_there_are_are_those_of_its_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {
        "run": {"--style", "--keep-colors", "--no-keep-colors", "--object", "--help"},
        "tracks": {"--out", "--mask", "--overwrite", "--help"},
    }
    mentioned = {"run": {"--out"}, "preview": {"--out"}, "tracks": {"--foreground"}, "bench": {"--foreground"}}
    for columns in ("40", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        found = set(options_of(lambda: cli.parse([command, "--help"])))
        assert wanted.get(command, {"--help"}) <= found
        assert not mentioned.get(command, set()) & found


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["run"],
        ["run", "in.mp4"],
        ["run", "in.mp4", "out.mp4", "more.mp4"],
        ["run", "in.mp4", "out.mp4", "--stlye", "wave"],
        ["run", "in.mp4", "out.mp4", "--style"],
        ["run", "in.mp4", "out.mp4", "--crf", "x"],
        ["run", "in.mp4", "out.mp4", "--edge-side", "6"],
        ["run", "in.mp4", "out.mp4", "--device", "tpu"],
        ["run", "in.mp4", "out.mp4", "--analyse-every", "often"],
        ["preview", "in.mp4"],
    ],
    ids=" ".join,
)
def test_words_that_cannot_be_parsed_leave_with_2_and_point_to_help(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert "--help" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_speaks_of_no_default_where_there_is_none(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "None" not in call(capsys, command, "--help")[1]


@pytest.mark.parametrize(
    ("said", "time_s"),
    [("90.5", 90.5), ("1e1", 10), ("00:01", 1), ("90:00", 5400), ("1:02:03.25", 3723.25), ("2:5", 125)],
)
def test_times_are_seconds_or_clock_times(said: str, time_s: float) -> None:
    run = cli.parse(["run", "in.mp4", "out.mp4", "--start", said, "--duration", f"0{said}" if ":" in said else "1"])
    assert isinstance(run, cli.Run)
    assert run.options.output.start == time_s
    preview = cli.parse(["preview", "in.mp4", "o.png", "--at", said])
    assert isinstance(preview, cli.Preview)
    assert preview.at == time_s


def test_a_sheet_that_cannot_be_is_refused_before_the_styles_are_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "give it the ending .png" in refusal(capsys, "styles", "--sheet", tmp_path / "s.txt")


def test_every_option_reaches_its_place() -> None:
    words = (
        "run in.mp4 out.mkv --style 3 --background none --foreground ember --object a@1,2=wave --object b@#3@1.5=4 "
        "--save-look l.toml --size 360 --start 1 --duration 2.5 --crf 30 --preset slow --overwrite --device cpu "
        "--segmenter components --edge-side fuse --threshold global --analysis-size 120 --min-area 1 --analyse-every 3 "
        "--feather 0 --statistics frame --precision float32 --compile off --json --quiet --dry-run"
    )
    run = cli.parse(words.split())
    assert isinstance(run, cli.Run)
    assert (run.json, run.quiet, run.dry_run) == (True, True, True)
    assert (str(run.input), str(run.output), run.options.device) == ("in.mp4", "out.mkv", "cpu")
    out, analysis, painting = run.options.output, run.options.analysis, run.options.painting
    assert (out.size, out.start, out.duration, out.crf, out.preset, out.overwrite) == (360, 1, 2.5, 30, "slow", True)
    assert (analysis.segmenter, analysis.edge_side, analysis.threshold) == ("components", "fuse", "global")
    assert (analysis.analysis_size, analysis.min_area, analysis.analyse_every) == (120, 1, 3)
    assert (painting.feather, painting.statistics, painting.precision) == (0, "frame", "float32")
    assert painting.compile == "off"
    objects = (ObjectStyle("a", "wave", (1, 2)), ObjectStyle("b", "scarlet-shore", region=3, at_s=1.5))
    assert Look.from_options(run.look) == Look("neon-shards", "none", "ember", objects)


# -- run ------------------------------------------------------------------------------------------------------------


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_json_is_the_last_line_of_stdout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6, size=(96, 72), picture=draw_mottled)
    out_path = tmp_path / "out.mp4"
    status, out, err = call(
        capsys, "run", clip, out_path, "--background", "wave", "--foreground", "ember", "--json", *FAST
    )
    assert (status, err) == (0, "")
    said = json.loads(out.splitlines()[-1])
    assert set(said) == JSON_KEYS
    assert (said["input"], said["output"]) == (str(clip), str(out_path))
    assert (said["frames_in"], said["frames_out"], said["width"], said["height"]) == (6, 6, 96, 72)
    assert (said["audio"], said["warnings"], said["duration_s"]) == ("copied", [], 0.2)
    assert said["device"].startswith(("cpu", "cuda"))
    assert said["seconds"] > 0
    assert said["fps"] > 0
    assert said["peak_memory_bytes"] > 1e7
    assert said["objects"]
    assert all(set(thing) == OBJECT_KEYS and thing["style"] == "ember" for thing in said["objects"])


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_summary_quiet_and_overwrite(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    out_path = tmp_path / "out.mp4"
    status, out, err = call(capsys, "run", clip, out_path, "--style", "starry", *FAST)
    assert (status, out) == (0, "")
    assert err.count("\n") == 1  # stderr is no terminal: no progress, one line of summary
    assert "6 frames, 64x48, 0.20 s, sound copied" in err
    by_name = out_path.read_bytes()
    assert "exists; add --overwrite" in refusal(capsys, "run", clip, out_path, "--style", "wave")
    assert out_path.read_bytes() == by_name
    assert call(capsys, "run", clip, out_path, "--style", 19, "--quiet", "--overwrite", *FAST) == (0, "", "")
    assert out_path.read_bytes() == by_name


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(("renamed", "told"), [('"a" = "b"', "1 warning"), ('"a" = "b"\n"c" = "d"', "2 warnings")])
def test_a_dry_run_that_warns_does_not_say_that_all_is_well(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, renamed: str, told: str
) -> None:
    look = tmp_path / "look.toml"
    look.write_text(f'background = "none"\nforeground = "wave"\n[rename]\n{renamed}\n')
    status, _, err = call(capsys, "run", clip, tmp_path / "out.mp4", "--dry-run", "--look", look)
    *above, last = err.splitlines()
    assert (status, len(above)) == (0, int(told[0]))
    assert all(line.startswith("warning: ") for line in above)
    assert last.endswith(f", 64x48, {told}, see above")


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_dry_run_checks_and_writes_nothing(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    words = ("run", clip, tmp_path / "out.mp4", "--dry-run")
    status, out, err = call(capsys, *words, "--style", "starry", "--size", 24)
    assert (status, out) == (0, "")
    assert "nothing written" in err
    assert err.endswith("32x24, all is well\n")
    assert call(capsys, *words, "--style", "starry", "--quiet") == (0, "", "")
    status, out, _ = call(capsys, *words, "--style", "starry", "--json")
    assert (status, json.loads(out)["frames_out"]) == (0, 0)
    status, out, err = call(capsys, *words, "--object", "disc@#1=starry", "--background", "none", "--json")
    assert (status, json.loads(out)["warnings"]) == (0, [])
    assert "warning" not in err
    assert "outside the frame" in refusal(capsys, *words, "--object", "x@64,0=wave")
    assert "no such region" in refusal(capsys, *words, "--object", "x@#99=wave")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    assert refusal(capsys, "run", clip) == "streamstyle: OUT is missing; see `streamstyle run --help`\n"
    assert "IN is missing" in refusal(capsys, "preview")


def test_the_list_of_commands_has_a_line_or_two_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert "• tracks" in told
    assert "streamstyle bench" not in told  # examples are for the command's own help
    assert max(map(len, told.splitlines())) <= 96  # Looks and objects are typed in one go


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_saved_look_paints_the_same_film(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    look = tmp_path / "look.toml"
    words = ("--object", "disc@#1=starry", "--background", "7", "--save-look", look, "--quiet", *FAST)
    assert call(capsys, "run", clip, tmp_path / "a.mp4", *words)[0] == 0
    assert call(capsys, "run", clip, tmp_path / "b.mp4", "--look", look, "--quiet", *FAST)[0] == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert Look.read(look) == Look(background="primary-night", objects=(ObjectStyle("disc", "starry", region=1),))


def test_a_look_that_cannot_be_saved_is_told(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    words = ("run", clip, tmp_path / "out.mp4", "--style", "none", "--save-look", tmp_path / "no" / "look.toml")
    assert "no such folder" in refusal(capsys, *words)
    (tmp_path / "look.toml").mkdir()
    assert "is a folder" in refusal(capsys, *words[:-1], tmp_path / "look.toml", "--overwrite")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, stderr, shown in ((False, _Terminal(), True), (True, _Terminal(), False), (False, io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stderr)
        with cli.Progress(quiet) as progress:
            progress(3, 12)
            progress(9, 12)
        assert ("12/12" in stderr.getvalue()) == shown
        assert bool(stderr.getvalue()) == shown


@pytest.mark.parametrize(("command", "words"), [(cli.Preview, ("x.png",)), (cli.Tracks, ("--out", "labels.npz"))])
def test_who_is_stopped_and_makes_no_film_speaks_of_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: type, words: tuple[str, ...]
) -> None:
    def stopped(self: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "__call__", stopped)
    status, _, err = call(capsys, command.__name__.lower(), "in.mp4", *words)
    assert (status, err) == (130, "streamstyle: stopped; nothing half-written was left behind\n")


# -- the other commands ---------------------------------------------------------------------------------------------


def test_styles_lists_26_names(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "styles")
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[:26]] == list(STYLES)
    assert len(set(STYLES)) == 26


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_sheet_of_styles(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), draw(3, (37, 23)))
    for source in (photo, clip):
        sheet = tmp_path / f"{source.stem}-sheet.png"
        status, _, err = call(capsys, "styles", "--sheet", sheet, "--on", source)
        assert (status, err) == (0, f"{sheet}: 26 styles\n")
        picture = cv2.imread(str(sheet))
        assert picture.shape[1] > 5 * 320
    rows = picture.shape[0]
    paintings = tmp_path / "paintings"
    paintings.mkdir()
    for k in range(4):
        cv2.imwrite(str(paintings / f"{k}.png"), draw(k, (64, 48)))
    words = (
        "--on",
        clip,
        "--at",
        "0.1",
        "--also",
        paintings,
        "--also",
        f"{photo}:1+wave:1; strength=0.5",
        "--also",
        "none@2 > wave@4",
        "--overwrite",
    )
    status, _, err = call(capsys, "styles", "--sheet", sheet, *words)
    assert (status, err) == (0, f"{sheet}: 33 styles\n")
    assert cv2.imread(str(sheet)).shape[0] > rows  # a row more of tiles


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("styles", "--on", "photo.png"), "goes with --sheet"),
        (("styles", "--also", "photo.png"), "--also STYLE: goes with --sheet"),
        (("styles", "--sheet", "s.png", "--also", "gone.jpg"), "gone.jpg: no such file"),
        (("styles", "--sheet", "s.png", "--also", "stary"), "unknown style 'stary'"),
        (("styles", "--sheet", "film.mp4", "--on", "in.mp4"), "film.mp4: a contact sheet is a picture"),
        (("styles", "--sheet", "s.png", "--on", "missing.png"), "missing.png: no such file"),
    ],
)
def test_a_sheet_that_cannot_be_made(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    status, _, err = call(capsys, *words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [("weights",), ("weights", "--list")])
def test_weights_are_listed(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path))
    status, out, err = call(capsys, *words)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == str(tmp_path)
    assert all(name in out for name in weights.ASSETS)
    assert out.count("absent") == len(weights.ASSETS)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "doctor")
    assert status == (2 if "FAIL" in out else 0)
    assert all(word in out for word in ("Python", "torch", "av", "CUDA", "hed"))


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(.2); from streamstyle.cli import main; exit(main(['styles']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    job.stdout.close()  # type: ignore[union-attr]
    assert job.stderr.read() == ""  # type: ignore[union-attr]
    job.stderr.close()  # type: ignore[union-attr]
    assert job.wait() == 0
