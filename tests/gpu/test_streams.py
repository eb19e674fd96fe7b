"""The lanes of a job, with CUDA's streams played by notebooks where there is no CUDA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from streamstyle.gpu import streams
from streamstyle.gpu.streams import Download, Lanes

NOTES: list[tuple[Any, ...]] = []


class FakeStream:
    def __init__(self, device: torch.device | None = None) -> None:
        self.number = sum(note[0] == "new" for note in NOTES)
        NOTES.append(("new", self.number))

    def wait_stream(self, other: str) -> None:
        NOTES.append(("wait", self.number, other))

    def wait_event(self, mark: str) -> None:
        NOTES.append(("wait", self.number, mark))

    def record_event(self) -> str:
        return f"mark on {self.number}"


class FakeTensor:
    is_cuda = True
    shape, dtype = (2, 3), torch.uint8

    def record_stream(self, cuda_stream: FakeStream) -> None:
        NOTES.append(("keep", cuda_stream.number))


class FakeEvent:
    def record(self) -> None:
        NOTES.append(("record",))

    def synchronize(self) -> None:
        NOTES.append(("synchronize",))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    NOTES.clear()

    @contextlib.contextmanager
    def current(cuda_stream: FakeStream) -> Iterator[None]:
        NOTES.append(("enter", cuda_stream.number))
        yield
        NOTES.append(("leave", cuda_stream.number))

    monkeypatch.setattr(streams.torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(streams.torch.cuda, "current_stream", lambda device: "weights")
    monkeypatch.setattr(streams.torch.cuda, "stream", current)
    monkeypatch.setattr(streams.torch.cuda, "Event", FakeEvent)


def test_a_lane_waits_for_the_one_before_and_keeps_what_it_uses(cuda: None) -> None:
    lanes = Lanes(torch.device("cuda"))
    assert [note for note in NOTES if note[0] == "wait"] == [("wait", n, "weights") for n in range(5)]
    NOTES.clear()
    mark = lanes.mark("upload")
    with lanes.on("analysis", after=mark, uses=[FakeTensor(), FakeTensor()]):  # type: ignore[list-item]
        NOTES.append(("work",))
    assert NOTES == [("wait", 1, "mark on 0"), ("keep", 1), ("keep", 1), ("enter", 1), ("work",), ("leave", 1)]


def test_a_download_copies_at_once_and_waits_when_asked(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pinned:
        def copy_(self, source: FakeTensor, non_blocking: bool) -> None:
            NOTES.append(("copy", non_blocking))

    def empty(shape: Any, dtype: torch.dtype, pin_memory: bool) -> Pinned:
        assert (shape, dtype, pin_memory) == ((2, 3), torch.uint8, True)
        return Pinned()

    monkeypatch.setattr(streams.torch, "empty", empty)
    download = Download([FakeTensor(), FakeTensor()])  # type: ignore[list-item]
    assert NOTES == [("copy", True), ("copy", True), ("record",)]
    assert len(download.wait()) == 2
    assert len(download.wait()) == 2
    assert NOTES[3:] == [("synchronize",)]  # once


def test_on_a_cpu_nothing_is_copied_or_waited_for() -> None:
    lanes, tensor = Lanes(torch.device("cpu")), torch.arange(3)
    with lanes.on("paint", after=lanes.mark("upload"), uses=[tensor]):
        (same,) = Download([tensor]).wait()
    assert same is tensor
    assert Download(()).wait() == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_cross_four_cuda_streams_unharmed() -> None:
    device = torch.device("cuda")
    lanes, downloads = Lanes(device), []
    for i in range(40):
        host = torch.full((1 << 20,), i, dtype=torch.uint8).pin_memory()
        with lanes.on("upload"):
            up = host.to(device, non_blocking=True)
        with lanes.on("paint", after=lanes.mark("upload"), uses=[up]):
            painted = (up.float() * 2).to(torch.uint8)
        with lanes.on("download", after=lanes.mark("paint"), uses=[painted]):
            downloads.append(Download([painted]))
        del host, up, painted
    for i, download in enumerate(downloads):
        assert (download.wait()[0] == 2 * i).all()
