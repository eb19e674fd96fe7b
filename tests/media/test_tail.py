"""What is kept of a segment that is not closed comes back as it was."""

import builtins
import errno
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media import tail as module
from streamstyle.media.tail import FRAMES, STATE, TAIL_BATCHES, TAIL_SHARE, Tail

AT = Checkpoint(
    7, 11, {"numbers": np.arange(5), "plain": [1, {"a": None}]}, Faults(3, 1, 0, ((4, 5, 6),)), closes=False
)


def batches(size: tuple[int, int], chroma: tuple[int, int]) -> list[FrameBatch]:
    """Three batches of 1, 2 and 5 frames, a checkpoint after the second."""
    generator, made, first = np.random.default_rng(0), [], 0
    for count in (1, 2, 5):
        y, u, v = (generator.integers(0, 256, (count, *shape), dtype=np.uint8) for shape in (size, chroma, chroma))
        pts = tuple(3 * i for i in range(first, first + count))
        made.append(FrameBatch(y, u, v, pts, first, checkpoint=AT if count == 2 else None))
        first += count
    return made


def iter_of(items: list[FrameBatch]) -> Iterator[FrameBatch]:
    """As a generator, which can be closed."""
    yield from items


def frames(tail: Tail) -> list[tuple[int, int, bytes]]:
    return [
        (batch.index + i, batch.pts[i], b"".join(plane[i].tobytes() for plane in (batch.y, batch.u, batch.v)))
        for batch in tail.replayed(iter_of([]), 40)
        for i in range(len(batch))
    ]


@pytest.mark.parametrize(("size", "chroma"), [((6, 8), (3, 4)), ((5, 7), (5, 7)), ((5, 7), (3, 4))])
def test_the_frames_that_count_come_back(tmp_path: Path, size: tuple[int, int], chroma: tuple[int, int]) -> None:
    given = batches(size, chroma)
    passed = list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(given), 2, 0))
    assert all(a is b for a, b in zip(passed, given, strict=True))
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    tail.go_on(2)
    assert tail.frames == 3
    assert tail.checkpoint is not None
    assert (tail.checkpoint.pts, tail.checkpoint.crc, tail.checkpoint.faults) == (AT.pts, AT.crc, AT.faults)
    assert np.array_equal(tail.checkpoint.state["numbers"], np.arange(5))
    expected = [
        (40 + batch.index + i, batch.pts[i], b"".join(plane[i].tobytes() for plane in (batch.y, batch.u, batch.v)))
        for batch in given[:2]
        for i in range(len(batch))
    ]
    assert frames(tail) == expected


def test_it_is_of_one_segment(tmp_path: Path) -> None:
    list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(batches((4, 4), (2, 2))), 2, 0))
    for segments in (0, 1, 3):
        tail = Tail(tmp_path, tmp_path / "out.mp4")
        tail.go_on(segments)
        assert tail.frames == 0
        assert frames(tail) == []


def test_what_was_written_and_did_not_count_is_written_over(tmp_path: Path) -> None:
    given = batches((4, 4), (2, 2))
    list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(given), 2, 0))  # eight frames, of which three count
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    tail.go_on(2)
    more = FrameBatch(given[2].y[:1], given[2].u[:1], given[2].v[:1], (99,), 3, checkpoint=AT)
    list(tail.keep(tail.replayed(iter_of([more]), 0), 2, 0))
    again = Tail(tmp_path, tmp_path / "out.mp4")
    again.go_on(2)
    assert [pts for _, pts, _ in frames(again)] == [0, 3, 6, 99]


def test_it_goes_with_its_segment(tmp_path: Path) -> None:
    given = batches((4, 4), (2, 2))
    closing = FrameBatch(given[2].y, given[2].u, given[2].v, given[2].pts, 3, checkpoint=Checkpoint(1, 2, {}))
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    for batch in tail.keep(iter_of([*given[:2], closing]), 0, 0):
        assert (tmp_path / FRAMES).exists()
        assert (tmp_path / STATE).exists() == (batch is not given[0])
    tail.forget()
    assert list(tmp_path.iterdir()) == []


def counting(count: int) -> list[FrameBatch]:
    """Batches of a frame of 96 bytes each, a checkpoint with each."""
    y, u, v = (np.zeros((1, *shape), np.uint8) for shape in ((8, 8), (4, 4), (4, 4)))
    return [FrameBatch(y, u, v, (i,), i, checkpoint=replace(AT, pts=i)) for i in range(count)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_could_not_be_written_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """A write that ends after some bytes: the frames that count are left, or none where the film needs the room."""
    said, real = list[str](), builtins.open
    tail = Tail(tmp_path, tmp_path / "out.mp4", said.append)
    kept = tail.keep(iter_of(counting(6)), 2, 0)
    for _ in range(3):
        next(kept)

    def half(path: Any, *how: Any) -> Any:
        if Path(path).name == FRAMES and how == ("ab",):
            with real(path, *how) as file:
                file.write(bytes(40))
            raise OSError(error, "refused")
        return real(path, *how)

    monkeypatch.setattr(builtins, "open", half)
    next(kept)
    monkeypatch.undo()
    assert math.isinf(tail.cost_s)
    why = "refused" if error == errno.EIO else "the disk is nearly full"
    assert said == [
        f"{tmp_path / 'out.mp4'}: painted frames cannot be kept ({why}); a crash costs up to a segment until they can"
    ]
    left = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert left.get(FRAMES) == (3 * 96 if error == errno.EIO else None)
    assert set(left) == ({FRAMES, STATE} if error == errno.EIO else set())
    before = dict(left)
    assert len(list(kept)) == 2
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before, "not tried in this segment again"
    again = Tail(tmp_path, tmp_path / "out.mp4")
    again.go_on(2)
    assert again.frames == (3 if error == errno.EIO else 0)


def test_it_takes_no_more_than_half_of_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, most = 1000, []

    def usage(folder: Path) -> Any:
        taken = (folder / FRAMES).stat().st_size if (folder / FRAMES).exists() else 0
        most.append(taken)
        return SimpleNamespace(free=room - taken)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    said = list[str]()
    tail = Tail(tmp_path, tmp_path / "out.mp4", said.append)
    assert len(list(tail.keep(iter_of(counting(12)), 2, 0))) == 12
    assert 300 < max(most) <= room / 2
    assert len(said) == 1, "once a job"
    assert list(tmp_path.iterdir()) == [], "given up, for the film"


def test_any_byte_of_the_state_that_changed_is_noticed(tmp_path: Path) -> None:
    list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(with_more()[:2]), 2, 0))
    whole = (tmp_path / STATE).read_bytes()
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1
        (tmp_path / STATE).write_bytes(data)
        tail = Tail(tmp_path, tmp_path / "out.mp4")
        tail.go_on(2)
        assert tail.frames == 0, (at, whole[at - 20 : at + 20])


def test_what_was_kept_and_is_gone_while_the_job_runs_is_told(tmp_path: Path) -> None:
    list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(batches((4, 4), (2, 2))), 2, 0))
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    tail.go_on(2)
    (tmp_path / FRAMES).write_bytes(b"short")
    with pytest.raises(OutputError, match=r"cannot be read again .*; run the same command again"):
        list(tail.replayed(iter_of([]), 0))


def with_more() -> list[FrameBatch]:
    """Batches as those, with layers that come and go, and the motion of some frames."""
    made = []
    for batch in batches((6, 8), (3, 4)):
        alphas = {k: np.full(batch.y.shape, 100 + k, np.uint8) for k in (0, 3)}
        alphas[3][0] = 0
        if batch.index == 1:
            alphas[5] = batch.y
        flows = [None if i % 2 else np.arange(12, dtype=np.int16).reshape(2, 3, 2) - i for i in range(len(batch))]
        made.append(replace(batch, alphas=alphas, flows=flows))
    return made


def test_what_goes_with_frames_comes_back(tmp_path: Path) -> None:
    given = with_more()
    passed = list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(given), 2, 0))
    assert [batch.alphas for batch in passed] == [{}] * 3
    assert all(batch.flows is there.flows for batch, there in zip(passed, given, strict=True))
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    tail.go_on(2)
    (again,) = tail.replayed(iter_of([]), 0)
    assert again.alphas.keys() == {0, 3, 5}
    for k, alpha in again.alphas.items():
        blank = np.zeros((1, 6, 8), np.uint8)
        assert np.array_equal(alpha, np.concatenate([batch.alphas.get(k, blank) for batch in given[:2]]))
    flows = [*given[0].flows, *given[1].flows]
    assert all((a is b is None) or np.array_equal(a, b) for a, b in zip(again.flows, flows, strict=True))
    assert again.flows[0] is not None
    assert again.flows[0].dtype == np.int16


@pytest.mark.parametrize("at", range(8))
def test_a_byte_of_what_goes_with_them_that_changed_is_noticed(tmp_path: Path, at: int) -> None:
    list(Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of(with_more()[:2]), 2, 0))
    data = bytearray((tmp_path / FRAMES).read_bytes())
    data[len(data) * at // 8] ^= 1
    (tmp_path / FRAMES).write_bytes(data)
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    tail.go_on(2)
    assert tail.frames == 0


def test_closing_it_closes_what_paints(tmp_path: Path) -> None:
    closed = []

    def painting() -> Iterator[FrameBatch]:
        try:
            yield from batches((4, 4), (2, 2))
        finally:
            closed.append(True)

    kept = Tail(tmp_path, tmp_path / "out.mp4").keep(painting(), 0, 0)
    next(kept)
    kept.close()
    assert closed == [True]


def test_a_checkpoint_is_due_after_some_batches_and_not_before_its_cost_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    tail = Tail(tmp_path, tmp_path / "out.mp4")
    assert [tail.is_due(False) for _ in range(2 * TAIL_BATCHES)] == 2 * [*[False] * (TAIL_BATCHES - 1), True]
    tail.is_due(False)
    assert tail.is_due(True)
    assert not tail.is_due(False), "counted anew where a segment ends"
    tail.cost_s = 0.25
    now_s[0] += 0.9 * tail.cost_s / TAIL_SHARE
    assert not any(tail.is_due(False) for _ in range(3 * TAIL_BATCHES))
    now_s[0] += 0.2 * tail.cost_s / TAIL_SHARE
    assert tail.is_due(False)
    tail.cost_s, now_s[0] = math.inf, 1e9
    assert any(tail.is_due(False) for _ in range(TAIL_BATCHES)), "given up, but this batch may be of the next segment"
