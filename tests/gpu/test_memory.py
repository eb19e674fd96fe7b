from __future__ import annotations

import itertools
import weakref

import pytest
import torch

from streamstyle.errors import DeviceError
from streamstyle.gpu import memory
from streamstyle.gpu.memory import FEWEST_BAND_PX, Portions, band_pixels, frames_together

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FULL_HD = 1920 * 1080


@pytest.mark.parametrize(
    ("free_bytes", "frames", "band_px"),
    [(139 << 30, 77, 1 << 24), (8 << 30, 4, 4362076), (2 << 30, 1, 1090519), (1 << 20, 1, FEWEST_BAND_PX)],
)
def test_what_fits_follows_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int, frames: int, band_px: int
) -> None:
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda device: (free_bytes, 1 << 40))
    assert frames_together(FULL_HD, CUDA) == frames
    assert band_pixels(CUDA, 1 << 24) == band_px


def test_a_cpu_is_not_asked() -> None:
    assert frames_together(FULL_HD, CPU) > 10**6
    assert band_pixels(CPU, 123) == 123


@pytest.mark.parametrize(("fits", "halvings"), [(1, 4), (2, 3), (3, 3), (5, 2), (16, 0)])
def test_portions_shrink_until_they_fit_and_cover_all(fits: int, halvings: int) -> None:
    def work(part: slice) -> list[int]:
        if part.stop - part.start > fits:
            raise torch.OutOfMemoryError
        return [*range(part.start, part.stop)]

    portions = Portions(CPU, lambda: False)
    for _ in range(2):  # what was too much once is not tried again
        assert [*itertools.chain(*portions.each(16, (4, 4), work))] == [*range(16)]
        assert portions.halved == halvings


def test_the_work_itself_may_want_less() -> None:
    want = [8]

    def shrink() -> bool:
        want[0] //= 2
        return want[0] > 0

    def work(part: slice) -> int:
        if want[0] > 1:
            raise torch.OutOfMemoryError
        return part.stop

    assert Portions(CPU, shrink).each(2, (4, 4), work) == [1, 2]


def test_what_does_not_fit_at_all_is_told_with_its_size() -> None:
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceError, match="cpu: out of memory for one frame of 64x48; give a smaller --size, or"):
        Portions(CPU, lambda: False).each(3, (48, 64), work)


def test_a_frame_that_needs_more_room_does_not_make_portions_smaller() -> None:
    """One frame too much for a moment (a reference is recorded): batches stay as large as they are."""
    rooms = [False, True]
    portions = Portions(CPU, lambda: True)

    def once(part: slice) -> int:
        if rooms and not rooms.pop(0):
            raise torch.OutOfMemoryError
        return part.stop

    assert portions.each(1, (4, 4), once) == [1]
    assert portions.each(16, (4, 4), once) == [16]
    portions.forget()
    assert portions.halved == 0


def test_the_failed_attempt_is_let_go_before_the_next() -> None:
    """An exception holds its frames, and they hold the tensors there was no room for."""
    held, alive = list[weakref.ref[torch.Tensor]](), list[bool]()

    def work(part: slice) -> int:
        if not held:
            large = torch.zeros(8)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError
        return part.stop

    def shrink() -> bool:
        alive.append(held[0]() is not None)
        return True

    assert Portions(CPU, shrink).each(1, (4, 4), work) == [1]
    assert alive == [False]
