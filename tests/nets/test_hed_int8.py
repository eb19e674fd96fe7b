import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.nets import hed_int8, int8
from streamstyle.nets.hed import HED
from streamstyle.nets.hed_int8 import Int8HED

LAYERS = [(2, 2), (3, 2)]
needs_operators = pytest.mark.skipif(not int8.available(), reason="no x86, or no torch with oneDNN's operators")


def untrained(side, blocks=0):
    """A HED that keeps every block alive, its values within what LARGEST says."""
    net, generator = HED(side, blocks), torch.Generator().manual_seed(0)
    for key, values in net.state_dict().items():
        spread = (2 / values[0].numel()) ** 0.5 if key.endswith("weight") else 1.0
        values.copy_(torch.randn(values.shape, generator=generator) * spread / (300 if key.startswith("side") else 1))
    return net.eval().requires_grad_(False)


def off(seen, floats):
    """How far features are off, as a share of them; bytes, whose units are not told, in those that fit best."""
    mine, theirs, unit = seen.float(), floats.float(), 1.0
    if seen.dtype == torch.uint8:
        unit = float((mine * theirs).sum() / (mine * mine).sum().clamp_min(1e-12))
    return float((mine * unit - theirs).norm() / theirs.norm())


def layers_of(net):
    """All that are built, by block and place."""
    return [(b, k) for b in range(1, net.depth + 1) for k in range(1, 1 + len(getattr(net, f"block{b}")))]


@needs_operators
@pytest.mark.weights
@pytest.mark.parametrize("side", ["1", "2", "3", "4", "5", "fuse"])
def test_edges_and_features_are_near_float32(asset, side):
    asset("hed")
    rgb = F.interpolate(torch.rand(1, 3, 12, 15), (90, 123), mode="bicubic").clamp(0, 1) * 0.3 + 0.35
    rgb[:, :, 30:70, 40:90] *= 0.3
    net = HED.load(side, blocks=3)
    edges, features = net.edges_and_features(rgb, layers_of(net))
    found, seen = Int8HED.of(net).edges_and_features(rgb, layers_of(net))
    assert len(seen) == len(features) == len(layers_of(net))
    assert found.dtype == torch.float32
    assert found.shape == edges.shape
    apart = (found - edges).abs()
    assert apart.mean() < 0.01, apart.mean()
    assert apart.max() < 0.15, apart.max()
    for mine, theirs in zip(seen, features, strict=True):
        assert mine.shape == theirs.shape
        assert mine.is_contiguous(memory_format=torch.channels_last)
        assert off(mine, theirs) < 0.06
    deepest, last = net._sides[-1], dict(layers_of(net))
    for (block, place), mine in zip(layers_of(net), seen, strict=True):
        read_in_floats = block >= deepest and place == last[block]
        assert mine.dtype == (torch.float32 if read_in_floats else torch.uint8)


@needs_operators
def test_the_narrow_network_in_bytes_is_near_float32():
    rgb = F.interpolate(torch.rand(1, 3, 12, 15), (90, 123), mode="bicubic").clamp(0, 1) * 0.3 + 0.35
    rgb[:, :, 30:70, 40:90] *= 0.3
    net = HED.load_narrow()
    edges, features = net.edges_and_features(rgb, layers_of(net))
    made = Int8HED.of(net)
    found, seen = made.edges_and_features(rgb, layers_of(net))
    assert (found - edges).abs().mean() < 0.01
    assert (found - edges).abs().max() < 0.15
    for mine, theirs in zip(seen, features, strict=True):
        assert off(mine, theirs) < 0.1
    assert not any(made._grown.values()), "its layers fit the steps of HED's"


@needs_operators
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (6, 1), (17, 16), (34, 43)])
def test_shapes_are_those_of_hed(size):
    net = untrained("2", blocks=3)
    edges, features = net.edges_and_features(torch.rand(2, 3, *size), LAYERS)
    found, seen = Int8HED.of(net).edges_and_features(torch.rand(2, 3, *size), LAYERS)
    assert found.shape == edges.shape
    assert found.dtype == torch.float32
    assert [each.shape for each in seen] == [each.shape for each in features]
    assert [each.dtype for each in seen] == [torch.float32, torch.uint8]  # side 2 reads the first of them in floats


@needs_operators
@pytest.mark.parametrize("side", ["1", "2"])
def test_edges_are_the_same_when_more_blocks_are_built(side):
    net, rgb = untrained("3"), torch.rand(1, 3, 34, 43)
    few, more = HED(side).requires_grad_(False), HED(side, 3).requires_grad_(False)
    for each in (few, more):
        values = {**untrained(side).state_dict(), **net.state_dict()}
        each.load_state_dict({key: values[key] for key in each.state_dict()})
    assert torch.equal(Int8HED.of(few)(rgb), Int8HED.of(more)(rgb))
    _, features = Int8HED.of(more).edges_and_features(rgb, layers_of(more))
    for mine, theirs in zip(features, more.edges_and_features(rgb, layers_of(more))[1], strict=True):
        assert off(mine, theirs) < 0.06


@needs_operators
@pytest.mark.parametrize("side", ["1", "3"])
def test_no_pictures_give_no_edges(side):
    assert Int8HED.of(untrained(side))(torch.empty(0, 3, 8, 9)).shape == (0, 8, 9)


@needs_operators
def test_batch_threads_and_a_run_before_do_not_matter():
    net, rgb = Int8HED.of(untrained("3")), torch.rand(3, 3, 61, 50)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected, features = net.edges_and_features(rgb, LAYERS)
        torch.set_num_threads(3)
        net(torch.rand(1, 3, 20, 90))
        for i in range(3):
            edges, seen = net.edges_and_features(rgb[i : i + 1], LAYERS)
            torch.testing.assert_close(edges[0], expected[i], atol=1e-6, rtol=0)  # enlarged in floats
            assert all(torch.equal(a[0], b[i]) for a, b in zip(seen, features, strict=True))
    finally:
        torch.set_num_threads(threads)


@needs_operators
def test_it_is_made_without_touching_the_floats_or_random_numbers():
    net, rgb = untrained("3"), torch.rand(1, 3, 20, 24)
    before, state = net(rgb), torch.get_rng_state()
    int8.available.cache_clear()
    assert int8.available()
    Int8HED.of(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net(rgb), before)
    made, before = Int8HED.of(net), Int8HED.of(net)(rgb)
    for values in net.parameters():
        values.mul_(0.5)
    assert torch.equal(made(rgb), before)


def pure_colors():
    generator = torch.Generator().manual_seed(0)
    blocks = (torch.rand(1, 3, 8, 9, generator=generator) > 0.5).float()
    return blocks.repeat_interleave(10, 2).repeat_interleave(10, 3)


def title(ink, paper):
    picture = np.full((240, 427, 3), paper, np.uint8)
    cv2.putText(picture, "THE END", (150, 130), cv2.FONT_HERSHEY_SIMPLEX, 1, (ink,) * 3, 2, cv2.LINE_AA)
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


@needs_operators
@pytest.mark.weights
@pytest.mark.parametrize("side", ["2", "3"])
@pytest.mark.parametrize("picture", [pure_colors(), title(255, 0), title(0, 255)], ids=["colours", "white", "black"])
def test_lettering_and_pure_colours_take_wider_steps(asset, monkeypatch, side, picture):
    asset("hed")
    net = HED.load(side, blocks=3)
    edges, features = net.edges_and_features(picture, LAYERS)
    found, seen = Int8HED.of(net).edges_and_features(picture, LAYERS)
    apart = (found - edges).abs()
    assert apart.mean() < 0.01, apart.mean()
    assert apart.max() < 0.3, apart.max()
    for mine, theirs in zip(seen, features, strict=True):
        assert off(mine, theirs) < 0.16
    monkeypatch.setattr(hed_int8, "MOST_WIDER", 0)
    clipped = (Int8HED.of(net)(picture) - edges).abs()
    assert clipped.max() > 1.5 * apart.max()


@needs_operators
@pytest.mark.weights
def test_how_wide_a_pictures_steps_are_is_its_own_affair(asset):
    asset("hed")
    made = Int8HED.of(HED.load("3"))
    calm = F.interpolate(torch.rand(1, 3, 8, 9), (80, 90), mode="bicubic").clamp(0, 1) * 0.3 + 0.35
    edges, features = made.edges_and_features(torch.cat([calm, pure_colors(), calm]), LAYERS[:1])
    for i, picture in enumerate((calm, pure_colors(), calm)):
        expected, seen = made.edges_and_features(picture, LAYERS[:1])
        assert torch.equal(edges[i : i + 1], expected)
        assert torch.equal(features[0][i : i + 1], seen[0])


@needs_operators
@pytest.mark.parametrize(("side", "place"), [(side, place) for side in ("2", "3") for place in range(6)])
def test_clipped_values_of_every_layer_count_and_a_few_may_be(monkeypatch, side, place):
    """The layer is computed once more, and those after it begin with steps as wide, up to one that gives floats."""
    made, rgb, block, layer = Int8HED.of(untrained(side, 3)), torch.full((1, 3, 20, 24), 0.5), *divmod(place, 2)
    layers, fitted, wide = [(b, k) for b in range(3) for k in range(2)], hed_int8._fitted, []
    usual, convolution = hed_int8.LARGEST[block][layer] / 255, made._convolutions[block][layer]

    def clipping(*given):
        found = convolution(*given)
        if given[-1] == usual and not found.is_floating_point():
            found.clamp_(max=254)[0, :30, 0, 0] = 255
        return found

    def told(*given):
        found = fitted(*given)
        wide.append(found.wide)
        return found

    made._convolutions[block][layer] = clipping
    monkeypatch.setattr(hed_int8, "_fitted", told)
    monkeypatch.setattr(hed_int8, "MOST_CLIPPED", 30)
    made.edges_and_features(rgb, [(3, 2)])
    assert wide == [1] * len(layers)
    monkeypatch.setattr(hed_int8, "MOST_CLIPPED", 29)
    made.edges_and_features(rgb, [(3, 2)])
    floats = 3 if side == "2" else len(layers)  # side 2 reads the second of block 2, which go into bytes again
    expected = [1.5 if place <= i and (i < floats or place > floats) else 1.0 for i in range(len(layers))]
    assert wide[6:] == ([1.0] * len(layers) if place == floats else expected)


@pytest.mark.parametrize("largest", [200, 254.4, 254.6, 255.4, 382, 383, 384.4, 5000, 1e6])
@pytest.mark.parametrize("guess", range(12))
def test_what_is_guessed_changes_nothing_but_the_runs_it_takes(largest, guess):
    """Values up to largest steps, more of which are clipped than may be; and many just where rounding decides."""
    values = torch.cat([torch.linspace(0, largest, 900), torch.full((40,), largest)]).reshape(1, 1, 20, 47)
    asked = []

    def run(step):
        asked.append(step)
        return (values / step).round().clamp(max=255).to(torch.uint8)

    expected = hed_int8._fitted(run, 1.0)
    grown, asked = expected.grown, []
    found = hed_int8._fitted(run, 1.0, guess=guess)
    assert torch.equal(found.values, expected.values)
    assert found[1:] == expected[1:]
    if guess == grown:
        just = abs(largest / 254.5 * 1.5 ** (1 - grown) - 1) < 0.004  # whether fewer would do is for rounding to say
        assert len(asked) == 1 + just


@needs_operators
@pytest.mark.weights
def test_a_layer_begins_with_the_steps_of_the_picture_before(asset, monkeypatch):
    asset("hed")
    net, runs, fitted = HED.load("3"), [], hed_int8._fitted

    def counted(run, *given):
        return fitted(lambda step: runs.append(step) or run(step), *given)

    monkeypatch.setattr(hed_int8, "_fitted", counted)
    made, took = Int8HED.of(net), []
    for picture in (pure_colors().roll(3 * i, 3) for i in range(3)):
        runs.clear()
        edges = made(picture)
        took.append(len(runs))
        assert torch.equal(edges, Int8HED.of(net)(picture))
    assert took[0] > 6
    assert took[1:] == [6, 6]


def test_steps_grow_no_wider_than_the_widest():
    asked = []

    def run(step):
        asked.append(step)
        return torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)

    found = hed_int8._fitted(run, 0.5)
    assert found.wide == 1.5**10
    assert found.step == asked[-1] == 0.5 * found.wide
    assert len(asked) == 11


@pytest.mark.parametrize("height", [1, 2, 63, 64, 65, 66, 128, 129])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_picture_in_strips_is_as_at_once(monkeypatch, height, count):
    generator = torch.Generator().manual_seed(height)
    layer, x = HED.load_narrow().block1[0], 100 * torch.randn(count, 3, height, 37, generator=generator)
    x = x.to(memory_format=torch.channels_last)
    parts = hed_int8._first_convolution(layer.weight, layer.bias, x, 2.0)
    monkeypatch.setattr(hed_int8, "STRIP_ROWS", 1000)
    assert torch.equal(parts, hed_int8._first_convolution(layer.weight, layer.bias, x, 2.0))
    assert parts.is_contiguous(memory_format=torch.channels_last)
