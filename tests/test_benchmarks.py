"""Committed results have the form that schema.py states, and README says what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench_pipeline  # noqa: E402
import gpu_parts  # noqa: E402
import gpu_report  # noqa: E402
from schema import problems  # noqa: E402
from tables import calm_films_table, choices_table, fill, generated, objects_table  # noqa: E402

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_have_the_form(path):
    assert problems(json.loads(path.read_text())) == []


def test_every_part_of_the_whole_path_has_its_figures():
    said = json.loads((ROOT / "benchmarks" / "results" / "pipeline.json").read_text())
    assert {row["part"] for row in said["figures"]} == set(bench_pipeline.PARTS)


def test_the_schema_finds_what_is_wrong():
    assert problems({"benchmark": "x", "date": "2026-01-01", "machine": {}, "figures": [{"name": "a", "value": "1"}]})


@pytest.mark.parametrize("name", sorted(generated()))
def test_what_is_generated_is_what_was_measured_and_which_options_there_are(name):
    text = (ROOT / name).read_text()
    assert fill(text, generated()[name]) == text, "run: python benchmarks/tables.py"


MACHINE = {"machine": {"processor": "P", "cores": 2, "torch": "1"}, "date": "2026-01-01"}


def figures(**values: float) -> list[dict]:
    return [{"name": name, "value": value, "unit": "of 1"} for name, value in values.items()]


def test_a_part_that_earns_nothing_is_told_from_one_that_does():
    values = {"all of it": 0.7, "no look": 0.5, "no luck: none": 0.703, "other way": 0.3, "other way; no look": 0.4}
    rows = {f"{choice}: {measure}": value for choice, value in values.items() for measure in ("J mean", "switches")}
    table = choices_table({**MACHINE, "frames": 30, "figures": figures(**rows)})
    assert "| choice | J mean | switches | beside all of it |" in table
    assert "| all of it | 0.700 | 0.700 |  |" in table
    assert "| no look | 0.500 | 0.500 | J -0.200, switches -0.200 |" in table
    assert "| other way; no look | 0.400 | 0.400 | J +0.100, switches +0.100 (beside other way) |" in table
    assert "| no luck: none | 0.703 | 0.703 | the same |" in table


def test_objects_are_told_at_every_frame_and_by_doubt():
    (goal,) = figures(**{"J mean": 0.76})
    fourth = {**goal, "name": "as often as on a CPU: J mean", "value": 0.68}
    goals = [{**row, "goal": 0.75, "at_least": True, "met": row["value"] > 0.75} for row in (goal, fourth)]
    rows = {"sequences": [{"name": "swan", "frames": 9, "J mean": 0.76}]}
    rows["sequences, as often as on a CPU"] = [{"name": "swan", "frames": 9, "J mean": 0.68}]
    every, fourth_table = objects_table({**MACHINE, "figures": goals, **rows}).split("Every 8th")
    assert "J mean at least 0.75: met." in every
    assert "| mean | 9 | **0.76** |" in every
    assert "J mean at least 0.75: **missed**." in fourth_table
    assert "| swan | 9 | 0.68 |" in fourth_table


def test_each_film_says_whether_it_is_calm_and_sharp():
    beside = dict.fromkeys(("report's ratio", "peer's ratio", "peer's sharpness ratio"), 0.5)
    film = {"name": "swan", "frames": 9, "ratio": 0.45, "sharpness ratio": 0.95, "pictures that differ": None, **beside}
    table = calm_films_table({"films": [film, {"name": "a still", "pictures that differ": 0}]})
    assert "| swan | 9 | 0.450 **missed** | 0.950 met | 0.500 | 0.500 | 0.500 |  |" in table
    assert "a still" not in table


# -- the GPU report, on a machine that may have no GPU ----------------------------------------------------------------


def test_a_part_that_fails_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    rows, end = gpu_report.run_part("exercise", tmp_path, 60)
    assert rows == []
    assert end.startswith("exit status 1: ")
    assert (tmp_path / "exercise.log").read_text()


def test_a_part_that_hangs_is_stopped(tmp_path):
    assert gpu_report.run_part("exercise", tmp_path, 0.05) == ([], "stopped after 0 s")


def test_a_part_that_crashed_is_not_taken_for_its_last_success(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu_report.figures_of("exercise", tmp_path).write_text('{"name": "old"}\n')
    rows, end = gpu_report.run_part("exercise", tmp_path, 60)
    assert rows == []
    assert end != "ok"


PART = """
import os, sys, time
sys.path.insert(0, {benchmarks!r})
import gpu_report

def part(folder):
    yield gpu_report.figure("one", 1, "x")
    yield gpu_report.figure("two", 1, "x")
    yield gpu_report.figure("two", 2, "x")
    with gpu_report.figures_of("exercise", folder).open("a") as out:
        out.write('{{"name": "cut sh')
    {end}

gpu_report.PARTS["exercise"] = (part, 60)
sys.exit(gpu_report.main())
"""


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("time.sleep(600)", "stopped after 10 s"),
        ("raise ValueError('a peer fell over')", "exit status 1: ValueError: a peer fell over"),
        ("os.abort()", "exit status -6: "),
    ],
)
def test_a_part_that_does_not_end_well_keeps_what_it_measured(tmp_path, monkeypatch, end, said):
    script = tmp_path / "part.py"
    script.write_text(PART.format(benchmarks=str(ROOT / "benchmarks"), end=end))
    monkeypatch.setattr(gpu_report, "__file__", str(script))
    rows, ended = gpu_report.run_part("exercise", tmp_path, 10 if "sleep" in end else 60)
    assert ended.startswith(said)
    assert [(row["name"], row["value"]) for row in rows] == [("one", 1), ("two", 2)]


def test_tests_are_counted_one_by_one(tmp_path):
    tests = tmp_path / "test_some.py"
    tests.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('k', [1, 'an id PASSED [ 1%]'])\n"
        "def test_good(k): pass\n"
        "def test_bad(): assert False, ':: PASSED [ 9%]'\n"
        "def test_broken(nothing): pass\n"
        "def test_skipped(): pytest.skip('no device')\n"
    )
    (tmp_path / "test_unreadable.py").write_text("import nothing_of_that_name")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    run = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    seen = list(gpu_report.tallied(run.stdout.splitlines(keepends=True)))
    assert {row["name"]: row["value"] for row in seen} == {
        "CUDA tests passed": 2,
        "CUDA tests failed": 1,
        "CUDA tests with errors": 2,
    }
    assert seen[3]["value"] == 1  # after the first test, not only at the end


def test_the_report_for_people_names_what_failed():
    rows = [{"part": "stages", "name": "paint", "value": 2.0, "unit": "x", "goal": 3, "at_least": True, "met": False}]
    text = gpu_report.markdown("A device", rows, {"stages": "ok", "memcheck": "exit status 9: out of bounds"})
    assert "| memcheck | exit status 9: out of bounds |" in text
    assert "| stages | paint | 2 x | at least 3: **missed** |" in text


def test_without_a_device_there_is_no_report(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--out", str(tmp_path)])
    assert gpu_report.main() == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_the_report_fits_its_limit_and_covers_every_kernel():
    assert gpu_report.LIMIT_S < 480
    stems = {path.stem for path in (ROOT / "kernels").glob("*.cu")}
    assert stems == {name.removeprefix("bench_") for name in gpu_report.PARTS if name.startswith("bench_")}


@pytest.mark.weights
def test_parts_of_whole_films_measure_what_they_say(tmp_path, monkeypatch):
    """On a CPU, so that a device's first run has every chance; without the device's own counters."""
    for name, value in (("DEVICE", "cpu"), ("HEIGHT", 64), ("WIDTH", 114), ("FRAMES", 6)):
        monkeypatch.setattr(gpu_parts, name, value)
    for name, value in (("SLOPE_FRAMES", 40), ("SLOPE_LINES", 48), ("STALL_EVERY", 5), ("STALL_S", 0.1)):
        monkeypatch.setattr(gpu_parts, name, value)
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "memory_allocated"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda: 0)
    monkeypatch.setattr(gpu_parts, "weights_or_random", lambda: True)
    slope = {row["name"]: row["value"] for row in gpu_parts.part_slope(tmp_path)}
    assert slope["frames"] == 40
    assert 0 <= slope["queue before the encoder, mean fill"] <= 1
    assert {"memory slope, host, encoder stalled", "memory slope, device, encoder stalled"} <= set(slope)
    calm = {row["name"]: row["value"] for row in gpu_parts.part_calm(tmp_path)}
    by_fps = calm["one style, 1080p, calm 0"] / calm["one style, 1080p, calm 1"] - 1
    assert calm["calm adds, of a frame's time"] == pytest.approx(by_fps, abs=1e-2)


@pytest.mark.weights
def test_objects_are_found_where_a_cpu_finds_them(monkeypatch):
    for name, value in (("DEVICE", "cpu"), ("HEIGHT", 180), ("WIDTH", 320), ("OBJECT_FRAMES", 9)):
        monkeypatch.setattr(gpu_parts, name, value)
    monkeypatch.setattr(gpu_parts, "weights_or_random", lambda: True)
    rows = {row["name"]: row["value"] for row in gpu_parts.part_objects(Path())}
    for name in ("one named", "found by themselves"):
        assert rows[f"objects at 1080p, {name}, J with what a CPU finds"] == 1
        assert 0.02 < rows[f"objects at 1080p, {name}, of the picture"] < 0.3
        assert rows[f"objects at 1080p, {name}"] > 0


@pytest.mark.weights
@pytest.mark.parametrize("same", [True, False])
def test_graphs_stand_beside_launches(monkeypatch, same):
    """On a CPU, with the capture stood in for; a graph that gives something else is told and not timed."""
    for name, value in (("DEVICE", "cpu"), ("HEIGHT", 32), ("WIDTH", 48)):
        monkeypatch.setattr(gpu_parts, name, value)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    monkeypatch.setattr(gpu_parts, "weights_or_random", lambda: True)
    monkeypatch.setattr(gpu_parts, "captured", lambda call: (call, call().shape == (4, 3, 32, 48) and same))
    rows = {row["name"]: row for row in gpu_parts.part_graphs(Path())}
    for styles in ("one style", "four styles"):
        assert rows[f"{styles}, as a graph gives the same"]["met"] is same
        assert (f"{styles}, launched / as a graph" in rows) is same
        launches = rows[f"{styles}, of which the host launches"]["value"]
        assert 0 < launches <= rows[f"{styles}, launched, whole batch"]["value"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_graph_gives_what_its_call_gives():
    x = torch.rand(64, 64, device="cuda")
    replay, same = gpu_parts.captured(lambda: (x @ x).relu_())
    assert same
    replay()
    _, same = gpu_parts.captured(lambda: x.add_(1).clone())  # another each time
    assert not same


def test_a_slope_is_that_of_a_line():
    assert gpu_parts.slope([0, 10, 20], [5, 25, 45]) == pytest.approx(2)


def test_tests_of_many_processes_are_counted_too():
    lines = [
        "[gw3] [  5%] PASSED tests/a.py::test_one[cuda]\n",
        "[gw0] [ 10%] FAILED tests/a.py::test_two\n",
        "other\n",
    ]
    seen = list(gpu_report.tallied(lines))
    assert [row["value"] for row in seen[-3:]] == [1, 1, 0]


def test_parts_that_are_not_measured_again_stay_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A device")
    monkeypatch.setattr(gpu_report, "RESULTS", tmp_path)
    assert gpu_report.earlier({"tests"}) == ([], {})
    rows = [{"part": part, "name": "n", "value": 1} for part in ("stages", "tests", "gone")]
    said = {"figures": rows, "ended": {"stages": "ok", "tests": "ok", "gone": "ok"}}
    (tmp_path / "gpu-a-device.json").write_text(json.dumps(said))
    assert gpu_report.earlier({"tests"}) == (rows[:1], {"stages": "ok"})


def test_a_check_that_was_stopped_meets_no_goal():
    counted = gpu_report.figure("failed", 0, "tests", goal=0, at_least=False)
    rows = [counted | {"part": part} for part in ("tests", "stages")]
    stages, tests = gpu_report.judged(rows, {"tests": "stopped after 60 s", "stages": "stopped after 60 s"})
    assert stages["met"]  # a time that was measured stays one
    assert "goal" not in tests
    assert gpu_report.judged(rows, {"tests": "ok", "stages": "ok"})[1]["met"]
