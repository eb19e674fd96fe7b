"""What painting one object again takes from a project, beside a whole run; a part of bench_pipeline.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from common import figure, make_clip, run_json, spread

FRAMES, SHOTS = 96, 3
SMALL_SHARE = 0.02
"""Of the frame, an object's area that is small: its painting reaches some 70 px farther to each side."""


def bench_projects(folder: Path, runs: int) -> list[dict[str, Any]]:
    """One small object's style changed, in the first of three shots: painted again from a project, beside a whole run.

    With calm that paints the shot again, and no other. Each way runs so many times, in turn; medians.
    """
    clip = make_clip(folder / "project.mp4", FRAMES, shots=SHOTS)
    number = small_object(clip)
    out, project, bare = (folder / name for name in ("out.mp4", "film.sstyle", "bare.sstyle"))
    run = ["run", str(clip), str(out), "--overwrite", "--no-resume"]
    rows = []
    for calm in (0.0, 0.7):

        def whole(style: str, *more: str, calm: float = calm) -> list[str]:
            named = ["--object", f"thing@#{number}={style}", "--background", "wave"]
            return [*run, *named, "--calm", str(calm), *more]

        ways = {
            "whole run": whole("ember"),
            "whole run that saves a project": whole("starry", "--save-project", str(project)),
        }
        ways["painted again"] = again = [*run, "--project", str(project), "--object", "thing=ember"]
        if calm:
            ways["painted again, motion not kept"] = [str(bare) if word == str(project) else word for word in again]
        taken, told = {way: list[float]() for way in ways}, dict[str, Any]()
        for _ in range(runs):
            for way, words in ways.items():
                if str(bare) in words:
                    leave_flow_out(project, bare)
                said = run_json(*words)
                taken[way].append(said["seconds"])
                told[way] = said["project"]
        check_shots(project)
        seconds = {way: spread(values)["median"] for way, values in taken.items()}
        name = f"one small object's style changed in one of {SHOTS} shots, calm {calm:g}"
        rows += [figure(f"{name}: {way}", value, "s") for way, value in seconds.items()]
        rows.append(figure(f"{name}: painted again / whole run", seconds["painted again"] / seconds["whole run"], "x"))
        again_told, held = told["painted again"], told["whole run that saves a project"]["bytes"]
        rows.append(figure(f"{name}: frames painted", again_told["frames_painted"] / FRAMES, "of all"))
        rows.append(figure(f"{name}: pixels painted", again_told["pixels_painted"], "of all"))
        rows.append(figure(f"{name}: bytes written", again_told["bytes_written"] / 1e6, "MB"))
        rows.append(figure(f"{name}: the project", sum(held.values()) / 1e6, "MB"))
        if calm:
            rows.append(figure(f"{name}: motion in the project", held["flow"] / FRAMES / 1e3, "kB a frame"))
    return rows


def small_object(clip: Path) -> int:
    """The number, in a preview of its first frame, of a film's largest object that is small."""
    found = run_json("preview", str(clip), str(clip.with_suffix(".png")), "--overwrite")
    areas = {thing["number"]: thing["area_px"] / found["width"] / found["height"] for thing in found["objects"]}
    small = {number: share for number, share in areas.items() if share <= SMALL_SHARE}
    if not small:
        raise SystemExit(f"{clip}: no object of at most {SMALL_SHARE:.0%} of the frame is found, only {areas}")
    return max(small, key=lambda number: small[number])


def check_shots(project: Path) -> None:
    """Stop where the film's cuts were not found."""
    from streamstyle.projects.project import Project

    shots = len(set(Project(project).frames.shots.tolist()))
    if shots != SHOTS:
        raise SystemExit(f"{project}: {shots} shots were found of {SHOTS}")


def leave_flow_out(project: Path, bare: Path) -> None:
    """Copy a project without the motion in it, as of a version that kept none."""
    from streamstyle.projects.project import FLOW, META

    shutil.rmtree(bare, ignore_errors=True)
    shutil.copytree(project, bare, ignore=shutil.ignore_patterns(FLOW))
    said = json.loads((bare / META).read_text("utf-8"))
    said["files"] = {name: size for name, size in said["files"].items() if not name.startswith(f"{FLOW}/")}
    (bare / META).write_text(json.dumps(said), "utf-8")
