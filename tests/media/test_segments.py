"""The journal: what is written is read again, and what is torn counts for nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint, Faults
from streamstyle.media import segments
from streamstyle.media.closed import Segment
from streamstyle.media.fingerprint import fingerprint
from streamstyle.media.journal import changes, parts_folder
from streamstyle.media.segments import WorkFolder
from streamstyle.media.states import read_state, write_state

STATE: dict[str, Any] = {
    "slots": np.arange(12, dtype=np.int32).reshape(3, 4),
    "luma": np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::3],
    "tracks": [[1, {"name": "swän", "color": np.array([0.1, 1 / 3, 9.0])}], [2, {"name": None, "color": None}]],
    "old": None,
    "new": [[[np.float32([1, 2]), np.float32([3])]]],
    "age": 3,
    "reference": [0.1, 1e-300],
    "empty": np.zeros((0, 5), np.float32),
}


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b


def fill(folder: WorkFolder, count: int, state: dict[str, Any] = STATE) -> None:
    """Closed segments of four frames, with stand-ins for their pictures and for a layer's."""
    for number in range(len(folder.segments), len(folder.segments) + count):
        folder.file(number).write_bytes(b"pictures" * (number + 1))
        (folder.make_beside(number, "layers") / "swan.mov").write_bytes(b"layer")
        segment = Segment(number, 4, 40 * number, 40 * number + 30, 8 * (number + 1))
        faults = Faults(4 * number, number, 2, ((64, 48, number),))
        folder.add(segment, Checkpoint(40 * number + 30, number, state, faults))


@contextlib.contextmanager
def killed(target: Path) -> Iterator[WorkFolder]:
    """A job that does what is said, and is then killed."""
    with contextlib.suppress(SystemExit), WorkFolder(target, {}) as folder:
        yield folder
        raise SystemExit


def stopped(target: Path, count: int) -> None:
    with killed(target) as folder:
        fill(folder, count)


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    write_state(tmp_path / "state", STATE)
    assert alike(read_state(tmp_path / "state"), STATE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
def test_no_space_for_a_state_is_told_as_of_any_file():
    with pytest.raises(OSError, match="No space left on device"):
        write_state(Path("/dev/full"), STATE)


@pytest.mark.parametrize("damage", ["missing", "short", "noise"])
def test_a_damaged_state_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    write_state(path, STATE)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50] if damage == "short" else bytes(range(256)))
    with pytest.raises((OSError, ValueError)):
        read_state(path)


def test_segments_and_the_last_state_are_taken_over(tmp_path: Path) -> None:
    target, said = tmp_path / "out.mp4", list[str]()
    stopped(target, 3)
    names = {entry.name for entry in parts_folder(target).iterdir()}
    films, folders = {f"00000{i}.mp4" for i in range(3)}, {f"00000{i}" for i in range(3)}
    assert names == {"lock", "journal.jsonl", *films, *folders, "000002.safetensors"}
    with WorkFolder(target, {}, say=said.append) as folder:
        assert (folder.frames, folder.resumed_frames, [s.number for s in folder.segments]) == (12, 12, [0, 1, 2])
        assert folder.checkpoint is not None
        assert (folder.checkpoint.pts, folder.checkpoint.crc) == (110, 2)
        assert alike(folder.checkpoint.state, STATE)
        assert folder.checkpoint.faults == Faults(8, 2, 2, ((64, 48, 2),))
        assert not folder.complete
    assert said == [f"{parts_folder(target)}: going on after frame 12"]
    assert not parts_folder(target).exists()


@pytest.mark.parametrize("torn", ['{"segment": {"num', "\0\0\0", '{"segment"\n', "é\n"])
def test_a_torn_last_line_and_stray_files_count_for_nothing(tmp_path: Path, torn: str) -> None:
    target = tmp_path / "out.mp4"
    stopped(target, 2)
    parts = parts_folder(target)
    with open(parts / "journal.jsonl", "a") as journal:
        journal.write(torn)
    (parts / "000002.mp4").write_bytes(b"half")
    (parts / "000002.safetensors").write_bytes(b"half")
    (parts / "000002" / "layers").mkdir(parents=True)
    (parts / "000002" / "layers" / "goose.mov").write_bytes(b"half")
    with killed(target) as folder:
        assert folder.frames == 8
        assert not (parts / "000002.mp4").exists()
        assert not (parts / "000002").exists()
        fill(folder, 1)
    lines = [json.loads(line) for line in (parts / "journal.jsonl").read_text().splitlines()]
    assert [line["segment"]["number"] for line in lines[1:]] == [0, 1, 2]
    with WorkFolder(target, {}) as folder:
        assert folder.frames == 12


def test_a_segment_counts_only_when_all_of_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two steps of adding one, the folder is that of before or of after."""
    real, steps = segments.sync, [0]
    for stop_at in range(1, 10):
        target, steps[0] = tmp_path / f"{stop_at}.mp4", 0
        stopped(target, 2)

        def sync(path: Path, stop_at: int = stop_at) -> None:
            steps[0] += 1
            if steps[0] == stop_at:
                raise SystemExit
            real(path)

        with monkeypatch.context() as patch:
            patch.setattr(segments, "sync", sync)
            with killed(target) as folder:
                fill(folder, 1)
        with WorkFolder(target, {}) as folder:
            assert folder.frames in (8, 12)
            assert folder.checkpoint is not None
            assert folder.checkpoint.crc == folder.frames // 4 - 1


@pytest.mark.parametrize("damage", ["missing", "short", "more"])
def test_a_segment_without_all_that_goes_with_it_is_not_gone_on_from(tmp_path: Path, damage: str) -> None:
    target, said = tmp_path / "out.mp4", list[str]()
    stopped(target, 2)
    layer = parts_folder(target) / "000000" / "layers" / "swan.mov"
    if damage == "missing":
        layer.unlink()
    else:
        (layer if damage == "short" else layer.with_name("goose.mov")).write_bytes(b"")
    with WorkFolder(target, {}, say=said.append) as folder:
        assert folder.frames == 0
        assert not layer.exists()
    afresh = f"{parts_folder(target)}: starting afresh, for a part of it is missing or damaged"
    assert said == [f"{afresh}; 8 frames that were kept are gone"]


def test_a_finished_job_says_so(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with killed(target) as folder:
        fill(folder, 1)
        folder.finish()
    with WorkFolder(target, {}) as folder:
        assert folder.complete
        assert folder.checkpoint is not None


def test_changes_name_what_differs() -> None:
    old = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "input": {"size": 1}, "gone": 0}
    new = {"a": 1, "b": {"c": 9, "d": {"e": 4}}, "input": {"size": 2}, "come": 0}
    assert changes(old, new) == ["b.c", "b.d.e", "input", "gone", "come"]
    assert changes(old, old) == []


def test_a_fingerprint_tells_size_time_and_content(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(bytes(5_000_000))
    first = fingerprint(path)
    assert fingerprint(path) == first
    for at in (0, 4_999_999):
        data = bytearray(5_000_000)
        data[at] = 1
        path.write_bytes(data)
        assert fingerprint(path)["blake2b"] != first["blake2b"]
    path.write_bytes(b"")
    assert fingerprint(path)["size_bytes"] == 0


def test_long_names_are_shortened(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 125 + ".mp4")
    with WorkFolder(target, {}) as folder:
        assert len(folder.path.name.encode()) <= 255
        assert folder.path.name.endswith(".parts")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"), WorkFolder(tmp_path / "no" / "out.mp4", {}):
        pass


def test_the_film_is_on_the_disk_before_its_segments_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, steps = tmp_path / "out.mp4", list[str]()
    real_sync, real_replace, real_clear = segments.sync, os.replace, WorkFolder._clear

    def sync(path: Path) -> None:
        steps.append(f"sync {path.name}")
        real_sync(path)

    def replace(source: Path, into: Path) -> None:
        steps.append("replace")
        real_replace(source, into)

    def clear(folder: WorkFolder) -> None:
        steps.append("clear")
        real_clear(folder)

    with WorkFolder(target, {}) as folder:
        (folder.path / "joined.mp4").write_bytes(b"film")
        monkeypatch.setattr(segments, "sync", sync)
        monkeypatch.setattr(segments.os, "replace", replace)
        monkeypatch.setattr(WorkFolder, "_clear", clear)
        folder.hand_over(folder.path / "joined.mp4")
    assert steps == ["sync joined.mp4", "replace", f"sync {tmp_path.name}", "clear"]
    assert target.read_bytes() == b"film"
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("left", range(5))
def test_a_removal_cut_short_leaves_a_folder_that_can_be_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    target, removed = tmp_path / "out.mp4", [0]
    stopped(target, 2)
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if removed[0] == left:
            raise SystemExit
        removed[0] += 1
        real(path, missing_ok)

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(Path, "unlink", unlink)
        with WorkFolder(target, {}):
            pass
    with WorkFolder(target, {}) as folder:
        assert folder.frames in (0, 8)
    assert not parts_folder(target).exists()


def test_a_beginning_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "_append", full)
        with pytest.raises(OutputError, match="the disk is full"), WorkFolder(tmp_path / "out.mp4", {}):
            pass
    assert [*tmp_path.iterdir()] == []


def handed_over(target: Path, job: dict[str, Any]) -> None:
    """A job that is killed once its film is in place."""
    with contextlib.suppress(SystemExit), WorkFolder(target, job, overwrite=False) as folder:
        fill(folder, 2)
        folder.finish()
        (folder.path / "joined.mp4").write_bytes(b"film")
        folder.hand_over(folder.path / "joined.mp4", {"frames": 8})
        raise SystemExit


@pytest.mark.parametrize("removed", [0, 1, 4, 9])
def test_what_is_in_place_is_done(tmp_path: Path, removed: int) -> None:
    """Killed before the folder is removed, or on the way."""
    target, said = tmp_path / "out.mp4", list[str]()
    handed_over(target, {})
    for entry in sorted(parts_folder(target).rglob("*"))[:removed]:
        if entry.is_file() and entry.name not in ("journal.jsonl", "lock"):
            entry.unlink()
    with WorkFolder(target, {}, overwrite=False, say=said.append) as folder:
        assert folder.placed == {"frames": 8}
        assert folder.frames == 8
    assert said == [f"{target}: is whole; what an earlier run left beside it is removed"]
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("what", ["another job", "another film", "no resume"])
def test_a_film_that_is_not_of_the_job_is_not_replaced_unasked(tmp_path: Path, what: str) -> None:
    target = tmp_path / "out.mp4"
    handed_over(target, {"look": 1})
    if what == "another film":
        target.write_bytes(b"mine")
    names = {path.name for path in parts_folder(target).rglob("*")}
    job, resume = {"look": 2 if what == "another job" else 1}, what != "no resume"
    with (
        pytest.raises(OutputError, match=r"out\.mp4: exists; add --overwrite"),
        WorkFolder(target, job, resume=resume, overwrite=False),
    ):
        pass
    assert {path.name for path in parts_folder(target).rglob("*")} == names
    with WorkFolder(target, job, resume=resume) as folder:
        assert folder.placed is None or what == "another film"


def test_a_full_disk_is_told_where_a_folder_is_to_be_made_and_reading_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with WorkFolder(tmp_path / "out.mp4", {}) as folder:
        assert not folder.beside(0, "layers").exists()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", full)
            with pytest.raises(OutputError, match=r"out\.mp4: the disk is full"):
                folder.make_beside(0, "layers")
