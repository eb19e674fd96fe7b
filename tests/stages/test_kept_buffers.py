"""Buffers that are kept from frame to frame: which, and how many."""

import pytest
import torch

from streamstyle.nets.johnson import JohnsonNet
from streamstyle.nets.stylenet import StyleNet
from streamstyle.stages.network_stylizer import NetworkStylizer
from streamstyle.stages.padding import KeptBuffers
from streamstyle.stages.stylize_regions import RegionStylizer
from tests.johnson_nets import save, transformer

CPU = torch.device("cpu")
WHOLE, HALF, QUARTER = (1, 64, 96), (1, 32, 48), (1, 16, 24)


def made(kept: KeptBuffers[object], shapes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Of which shapes new ones were made, asked for one after another."""
    new = []
    for shape in shapes:
        kept.of(shape, lambda shape=shape: new.append(shape))
    return new


def test_what_two_coats_need_in_turn_is_made_once():
    assert made(KeptBuffers(CPU), [WHOLE, HALF] * 3) == [WHOLE, HALF]
    assert made(KeptBuffers(CPU), [WHOLE, (1, 96, 64)] * 3) == [WHOLE, (1, 96, 64)]


def test_no_more_is_kept_than_twice_the_largest_and_the_longest_unused_goes_first():
    others = [(1, 64, 92), (1, 60, 96)]
    assert made(KeptBuffers(CPU), [WHOLE, HALF, others[0], HALF, WHOLE]) == [WHOLE, HALF, others[0], WHOLE]
    kept: KeptBuffers[object] = KeptBuffers(CPU)
    assert made(kept, [QUARTER, HALF, WHOLE, *others]) == [QUARTER, HALF, WHOLE, *others]
    assert made(kept, [others[1]]) == []
    larger = (2, 640, 960)
    assert made(kept, [larger, others[1]]) == [larger]


def test_on_a_gpu_the_last_are_kept():
    kept: KeptBuffers[object] = KeptBuffers(torch.device("meta"))
    assert made(kept, [WHOLE, WHOLE, HALF, WHOLE]) == [WHOLE, HALF, WHOLE]


@pytest.mark.parametrize("own", [False, True])
def test_frames_of_two_sizes_in_turn_are_painted_as_alone_and_in_the_same_memory(tmp_path, monkeypatch, own):
    if own:
        file = save(tmp_path / "candy.safetensors", transformer(blocks=1).state_dict())
        painter = NetworkStylizer(JohnsonNet.read(file), CPU, torch.float32)
        record = painter.record
    else:
        net = StyleNet()
        painter = RegionStylizer(net, CPU, torch.float32)

        def record(rgb):
            return painter.record(rgb, net.norms(0))

    large, small = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 32, 48)
    style = record(large)
    alone = []
    for frame in (large, small):
        painter.forget_workspace()
        alone.append(painter.paint(frame, style).clone())
    asked, of = [], KeptBuffers.of

    def counted(self, shape, make):
        return of(self, shape, lambda: asked.append(shape) or make())

    monkeypatch.setattr(KeptBuffers, "of", counted)
    painter.forget_workspace()
    for _ in range(3):
        for frame, expected in zip((large, small), alone, strict=True):
            assert torch.equal(painter.paint(frame, style), expected)
    assert asked == [WHOLE, HALF]
