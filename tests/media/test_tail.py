"""What is kept of a segment that is not closed comes back as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media.tail import FRAMES, STATE, Tail

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
    for batch in Tail(tmp_path, tmp_path / "out.mp4").keep(iter_of([*given[:2], closing]), 0, 0):
        assert (tmp_path / FRAMES).exists()
        assert (tmp_path / STATE).exists() == (batch is not given[0])
    assert list(tmp_path.iterdir()) == []


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
