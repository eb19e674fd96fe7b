"""The rooms of the house: which may import which, and what must stand together. Read from the sources, not run."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamstyle

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamstyle"
SOURCES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted(path for path in (ROOT / "kernels").iterdir() if path.suffix in {".cu", ".cuh", ".h"})

PUBLIC_NAMES = {
    "AnalysisOptions",
    "Look",
    "ObjectStyle",
    "Options",
    "OutputOptions",
    "StreamstyleError",
    "StyleOptions",
    "Stylizer",
    "__version__",
    "probe",
    "stylize",
}

# A room is a module or a package right under streamstyle/. What stands left may be imported, never the reverse:
#   errors -> frames, arguments, config, styles, look -> flow | media | gpu | nets -> stages
#          -> plugins, shots -> objects, frozen_statistics -> scene -> painting -> stylizer -> naming, job
#          -> pipeline | preview, sheets, doctor -> bench, demo -> cli, web
#   media, naming -> tracks -> preview, projects, pipeline
#   job -> projects -> pipeline -> run_job -> cli
#   media -> plan -> job, sheets, preview, projects, pipeline, bench, run_job, cli
#   media, nets -> train -> cli
_WORDS = {"errors", "_version", "frames", "arguments", "config", "styles", "look"}
_STAGES = _WORDS | {"gpu", "nets", "stages"}
_FOLLOWING = _STAGES | {"shots", "objects", "frozen_statistics"}
_PATH = _FOLLOWING | {"flow", "media", "process", "scene", "stylizer"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "frames": {"errors"},
    "arguments": {"errors"},
    "process": set(),
    "config": {"errors", "arguments"},
    "styles": {"errors", "arguments"},
    "renaming": {"errors"},
    "look_file": {"errors"},
    "look": {"errors", "arguments", "config", "frames", "styles", "look_file", "renaming"},
    "flow": {"errors"},
    "media": _WORDS | {"flow", "process"},
    "gpu": _WORDS,
    "nets": _WORDS,
    "stages": _STAGES - {"stages"},
    "shots": set(),
    "plugins": {"errors"},
    "sam2_segmenter": {"errors", "plugins"},
    "objects": _STAGES | {"plugins", "shots"},
    "frozen_statistics": _STAGES | {"shots"},
    "scene": _FOLLOWING,
    "painting": _FOLLOWING | {"media", "scene"},
    "stylizer": _FOLLOWING | {"painting", "plugins", "scene"},
    "naming": _PATH,
    "plan": _WORDS | {"media"},
    "job": _PATH | {"plan"},
    "tracks": _PATH | {"naming"},
    "preview": _PATH | {"plan", "tracks", "naming", "sheets"},
    "sheets": _PATH | {"painting", "plan"},
    "doctor": _PATH,
    "projects": _PATH | {"painting", "tracks", "plan", "job"},
    "pipeline": _PATH | {"painting", "plan", "job", "naming", "tracks", "projects"},
    "run_job": _WORDS | {"process", "plan", "job", "pipeline", "projects"},
    "bench": _PATH | {"naming", "plan", "job", "pipeline", "preview", "sheets", "doctor"},
    "demo": _PATH | {"pipeline", "preview", "sheets"},
    "train": _WORDS | {"gpu", "media", "nets"},
    "web": _PATH | {"pipeline", "preview", "sheets", "doctor"},
    "progress": set(),
    "tracks_command": _PATH | {"tracks", "progress", "process"},
    "cli": _PATH
    | {
        "progress",
        "process",
        "plan",
        "tracks_command",
        "run_job",
        "pipeline",
        "bench",
        "demo",
        "preview",
        "sheets",
        "doctor",
        "train",
        "web",
    },
    "__main__": {"cli"},
    "__init__": _PATH | {"job", "pipeline"},
}

# Libraries that belong to some rooms, or to some files, and to no other.
ONLY_IN = {
    "av": "streamstyle/media/",
    "PIL": "streamstyle/media/paintings.py",
    "cupy": "streamstyle/gpu/kernels.py",
    "onnx": "streamstyle/nets/weights.py",
    "h5py": "streamstyle/nets/weights.py",
    "matplotlib": "streamstyle/bench/plot.py",
    "sam2": "streamstyle/sam2_segmenter.py",
}
NEVER_IN = {
    "shots.py": {"torch"},
    "objects/tracker.py": {"torch"},
    "errors.py": {"torch", "numpy"},
    "config.py": {"torch", "numpy"},
    "flow.py": {"torch", "numpy"},
    "plan.py": {"torch"},
    "tracks/target.py": {"torch"},
}


# Which file of a room may import which other of it; and rooms that a file keeps to, though its room may go further.
WITHIN: dict[str, dict[str, set[str]]] = {
    "objects": {
        "appearance": set(),
        "bodies": set(),
        "evidence": {"area_filter", "bodies"},
        "area_filter": set(),
        "bilateral_filter": set(),
        "guided_filter": set(),
        "tracker": set(),
        "object_warnings": set(),
        "following": {"between", "object_tracks", "segmenter", "tracker"},
        "chosen_tracks": {"object_tracks", "recalling_tracks", "segmenter"},
        "film_follower": {"area_filter", "between", "following", "foresight", "tracker"},
        "segmenter": {"appearance"},
        "reentry": {"tracker"},
        "weighing": {"segmenter", "tracker"},
        "trust": {"weighing"},
        "repeats": {"evidence", "weighing"},
        "slow_motion": {"device_weighing", "evidence", "trust", "weighing"},
        "between": {"area_filter", "tracker", "weighing"},
        "plain_ground": {"bodies", "segmenter", "tracker", "weighing"},
        "host_weighing": {
            "area_filter",
            "bilateral_filter",
            "evidence",
            "guided_filter",
            "segmenter",
            "tracker",
            "trust",
            "weighing",
        },
        "device_weighing": {
            "area_filter",
            "bilateral_filter",
            "bodies",
            "evidence",
            "guided_filter",
            "host_weighing",
            "segmenter",
            "tracker",
            "weighing",
        },
        "places": {"segmenter"},
        "object_tracks": {"between", "places", "segmenter", "tracker", "weighing"},
        "appearance_tracks": {
            "appearance",
            "between",
            "device_weighing",
            "evidence",
            "host_weighing",
            "object_tracks",
            "plain_ground",
            "places",
            "reentry",
            "repeats",
            "segmenter",
            "slow_motion",
            "tracker",
            "trust",
            "weighing",
        },
        "foresight": {"appearance_tracks", "object_tracks", "segmenter", "tracker"},
        "recall": {"appearance", "reentry"},
        "recalling_tracks": {"appearance_tracks", "object_tracks", "recall", "reentry", "segmenter", "weighing"},
    },
    "tracks": {
        "drawing": set(),
        "export": {"drawing", "outlines", "target"},
        "given_tracks": set(),
        "film_objects": {"export", "target"},
        "outlines": set(),
        "target": set(),
    },
}
ONLY_ROOMS = {"objects/tracker.py": {"shots"}, "objects/guided_filter.py": set[str](), "objects/appearance.py": set()}


def room(path: Path) -> str:
    """The room of a file of the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, text: str | None = None) -> Iterator[tuple[str, int]]:
    """Each module a file imports, anywhere in it, as an absolute dotted name, with the line."""
    package = ("streamstyle", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8") if text is None else text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def broken_arrows(path: Path, text: str | None = None) -> list[str]:
    """What a file imports that its room may not, one line each."""
    here, where = room(path), path.relative_to(ROOT).as_posix()
    if here not in MAY_IMPORT:
        return [f"{where}: {here} is a new room; give it a row in MAY_IMPORT"]
    broken = []
    for name, line in imports(path, text):
        top, _, rest = name.partition(".")
        there = rest.partition(".")[0] if top == "streamstyle" else None
        if there == "__version__":
            there = "_version"
        if there is not None and there != here and there not in MAY_IMPORT[here]:
            broken.append(f"{where}:{line} imports {name}: the arrow {there or '__init__'} -> {here} does not exist")
        if there is not None:
            broken += within(path, there, rest, f"{where}:{line} imports {name}")
        home = ONLY_IN.get(top)
        if home is not None and not where.startswith(home):
            broken.append(f"{where}:{line} imports {name}: {top} belongs to {home} only")
        if top in NEVER_IN.get(path.relative_to(PACKAGE).as_posix(), ()):
            broken.append(f"{where}:{line} imports {name}: {path.stem} knows no {top}")
    return broken


def within(path: Path, there: str, rest: str, what: str) -> list[str]:
    """What is wrong with an import inside a room of WITHIN, or from a file of ONLY_ROOMS."""
    here, broken = room(path), list[str]()
    if there == here and here in WITHIN and path.stem != "__init__":
        file = rest.split(".")[1]
        if path.stem not in WITHIN[here]:
            broken.append(f"{what}: {path.stem} is new in {here}; give it a row in WITHIN")
        elif file != path.stem and file not in WITHIN[here][path.stem]:
            broken.append(f"{what}: the arrow {file} -> {path.stem} does not exist")
    rooms = ONLY_ROOMS.get(path.relative_to(PACKAGE).as_posix())
    if rooms is not None and there != here and there not in rooms:
        broken.append(f"{what}: the arrow {there} -> {path.stem} does not exist")
    return broken


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_arrows(path):
    assert broken_arrows(path) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("media/decode.py", "from streamstyle.gpu import transfer", "gpu -> media"),
        ("media/decode.py", "def f():\n    import streamstyle.nets.hed", "nets -> media"),
        ("media/decode.py", "from ..stages.color import to_rgb", "stages -> media"),
        ("stages/color.py", "from streamstyle import media", "media -> stages"),
        ("stages/color.py", "from streamstyle.flow import prefetch", "flow -> stages"),
        ("objects/tracker.py", "import torch", "tracker knows no torch"),
        ("shots.py", "from . import gpu", "gpu -> shots"),
        ("objects/tracker.py", "from streamstyle.gpu import transfer", "gpu -> tracker"),
        ("objects/tracker.py", "from streamstyle.objects.segmenter import Segmenter", "segmenter -> tracker"),
        ("objects/evidence.py", "from streamstyle.objects import appearance", "appearance -> evidence"),
        ("pipeline.py", "from streamstyle.train import gatys", "train -> pipeline"),
        ("stylizer.py", "from streamstyle.pipeline import stylize", "pipeline -> stylizer"),
        ("pipeline.py", "from av.codec import Codec", "av belongs to streamstyle/media/"),
        ("gpu/transfer.py", "import cupy as cp", "cupy belongs to streamstyle/gpu/kernels.py"),
        ("nets/hed.py", "import streamstyle", "__init__ -> nets"),
        ("odds.py", "", "odds is a new room"),
    ],
)
def test_a_wrong_import_is_found(file, text, complaint):
    (found,) = broken_arrows(PACKAGE / file, text)
    assert complaint in found


def test_who_knows_no_torch_is_there():
    assert [file for file in NEVER_IN if not (PACKAGE / file).is_file()] == []


@pytest.mark.parametrize("arrows", [MAY_IMPORT, *WITHIN.values()])
def test_arrows_have_no_cycle(arrows):
    left = dict(arrows)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_cupy_is_imported_lazily():
    tree = ast.parse((PACKAGE / "gpu" / "kernels.py").read_text("utf-8"))
    inside = {id(inner) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for inner in ast.walk(outer)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import) and node.names[0].name == "cupy"]
    assert found
    assert all(id(node) in inside for node in found)


def missing_twins(root: Path) -> list[str]:
    """Files and rows that each kernels/<stem>.cu of a repository at root calls for and that are not there."""
    missing = []
    readme = root / "kernels" / "README.md"
    rows = readme.read_text("utf-8").splitlines() if readme.exists() else []
    for stem in sorted(path.stem for path in (root / "kernels").glob("*.cu")):
        twins = [f"streamstyle/stages/{stem}.py", f"tests/stages/test_{stem}.py", f"benchmarks/bench_{stem}.py"]
        missing += [twin for twin in twins if not (root / twin).is_file()]
        row = next((row for row in rows if row.startswith(f"| `{stem}` |")), None)
        if row is None or "not yet written" in row:
            missing.append(f"kernels/README.md: a row for {stem} that says it is written")
    return missing


def test_every_kernel_has_its_twins():
    assert missing_twins(ROOT) == []


@pytest.mark.parametrize("room", WITHIN)
def test_every_file_of_a_room_has_its_test(room):
    there = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert there == WITHIN[room].keys()
    assert [stem for stem in there if not (ROOT / "tests" / room / f"test_{stem}.py").is_file()] == []


def test_a_kernel_without_twins_is_found(tmp_path):
    for folder in ("kernels", "streamstyle/stages", "tests/stages", "benchmarks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "kernels/blur.cu").touch()
    (tmp_path / "kernels/README.md").write_text("| `blur` | blurs | not yet written |\n", "utf-8")
    assert len(missing_twins(tmp_path)) == 4
    for twin in ("streamstyle/stages/blur.py", "tests/stages/test_blur.py", "benchmarks/bench_blur.py"):
        (tmp_path / twin).touch()
    (tmp_path / "kernels/README.md").write_text("| `blur` | blurs | v1 |\n", "utf-8")
    assert missing_twins(tmp_path) == []


def test_the_public_names_are_these():
    assert set(streamstyle.__all__) == PUBLIC_NAMES
    assert len(streamstyle.__all__) == len(PUBLIC_NAMES)


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_a_public_name_is_there(name):
    assert getattr(streamstyle, name) is not None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_is_short_and_says_what_it_is(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module starts with a docstring"
    assert path.stem not in {"utils", "helpers", "misc", "manager"}


def long_lines(text: str) -> list[int]:
    """The numbers of the lines that are longer than ruff lets a line of Python be."""
    width = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["line-length"]
    return [number for number, line in enumerate(text.splitlines(), 1) if len(line) > width]


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_a_kernels_lines_are_no_longer_than_pythons(path):
    assert long_lines(path.read_text("utf-8")) == []


def test_a_long_line_is_found():
    assert long_lines("\n".join(["x" * 120, "x" * 121])) == [2]


def test_every_package_is_in_the_wheel():
    packages = (ROOT / "pyproject.toml").read_text("utf-8")
    for init in PACKAGE.rglob("__init__.py"):
        dotted = ".".join(init.parent.relative_to(ROOT).parts)
        assert f'"{dotted}"' in packages, f"{dotted} is missing from [tool.setuptools] packages"
