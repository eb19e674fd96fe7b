"""A model of how things look: told apart, balanced, anchored; and nothing from what it has not seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from object_choices import coarse_map

from streamstyle.media.states import read_state, write_state
from streamstyle.objects import appearance
from streamstyle.objects.appearance import ANCHOR, DIMENSIONS, FORGET, STRIDE, AppearanceModel, halved

CPU = torch.device("cpu")
GRID = (12, 16)
CHANNELS = (24, 40)


def surface(kind: int, seed: int, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """What a network sees of a surface of that kind, everywhere the same but for noise: two blocks of features."""
    means = torch.Generator().manual_seed(kind)
    noise = torch.Generator().manual_seed(1000 + 100 * kind + seed)
    sizes = ((2 * GRID[0], 2 * GRID[1]), GRID)
    return tuple(  # type: ignore[return-value]
        (torch.randn(c, 1, 1, generator=means) + spread * torch.randn(c, *size, generator=noise)).relu()
        for c, size in zip(CHANNELS, sizes, strict=True)
    )


def scene(kinds: np.ndarray, seed: int = 0, spread: float = 0.5) -> tuple[list[Tensor], Tensor]:
    """Features and picture of a scene, kinds [GRID] says which surface is where."""
    blocks = [torch.zeros(CHANNELS[0], 2 * GRID[0], 2 * GRID[1]), torch.zeros(CHANNELS[1], *GRID)]
    rgb = torch.zeros(3, 4 * GRID[0], 4 * GRID[1], dtype=torch.uint8)
    for kind in np.unique(kinds):
        fine, coarse = surface(int(kind), seed, spread)
        there = torch.from_numpy(kinds == kind)
        blocks[0] = torch.where(there.repeat_interleave(2, 0).repeat_interleave(2, 1), fine, blocks[0])
        blocks[1] = torch.where(there, coarse, blocks[1])
        colour = torch.randint(0, 255, (3, 1, 1), generator=torch.Generator().manual_seed(int(kind)))
        rgb = torch.where(there.repeat_interleave(4, 0).repeat_interleave(4, 1), colour.to(torch.uint8), rgb)
    return blocks, rgb


def layout(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Surface 0 with a box (y, x, height, width) of surfaces 1, 2 .. on it."""
    kinds = np.zeros(GRID, np.int64)
    for k, (y, x, height, width) in enumerate(boxes, start=1):
        kinds[y : y + height, x : x + width] = k
    return kinds


def shares_of(kinds: np.ndarray, classes: int) -> Tensor:
    return torch.from_numpy(np.stack([kinds.ravel() == k for k in range(classes)]).astype(np.float32))


def model_of(kinds: np.ndarray, seed: int = 0) -> tuple[AppearanceModel, Tensor]:
    """A model that has learned a scene, one class a surface; and the scene's descriptions."""
    model = AppearanceModel(CPU)
    classes = int(kinds.max()) + 1
    for _ in range(classes - 1):
        model.add()
    x, _ = model.describe(*scene(kinds, seed))
    model.learn(x, shares_of(kinds, classes))
    return model, x


def scores(model: AppearanceModel, blocks: list[Tensor], rgb: Tensor) -> Tensor:
    """Each class's probability in each block of pixels, [P, K + 1]: the mean over its part of the map."""
    x, grid = model.describe(blocks, rgb)
    return F.avg_pool2d(model.score_map(x, grid, blocks, rgb), STRIDE).flatten(1).T


def right(found: Tensor, kinds: np.ndarray) -> float:
    """Share of the blocks whose likeliest class is theirs."""
    return float((found.argmax(1).numpy() == kinds.ravel()).mean())


def test_a_description_a_block_of_pixels_ends_in_one_and_does_not_depend_on_brightness():
    model, kinds = AppearanceModel(CPU), layout((2, 2, 5, 5))
    blocks, rgb = scene(kinds)
    x, grid = model.describe(blocks, rgb)
    assert grid == GRID
    assert (x.dtype, x.shape[0]) == (torch.float32, GRID[0] * GRID[1])
    assert (x[:, -1] == 1).all()
    brighter, _ = model.describe([2 * block for block in blocks], rgb)
    torch.testing.assert_close(brighter, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_may_be_of_any_precision(dtype):
    kinds = layout((2, 2, 5, 5))
    blocks, rgb = scene(kinds)
    (exact, _), (near, _) = (
        AppearanceModel(CPU).describe(some, rgb) for some in (blocks, [block.to(dtype) for block in blocks])
    )
    assert near.dtype == torch.float32
    # Principal directions have no sign: products are the same.
    torch.testing.assert_close(near @ near.T, exact @ exact.T, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("units", [(1.0, 1.0), (2.0, 0.7)])
def test_features_may_be_bytes_of_any_units(units):
    """Of each layer its own; descriptions and scores are as those of floats that say the same."""
    kinds = layout((2, 2, 5, 5))
    blocks, rgb = scene(kinds)
    in_bytes = [(unit * 40 * block).round().clamp(0, 255).byte() for unit, block in zip(units, blocks, strict=True)]
    models = AppearanceModel(CPU), AppearanceModel(CPU)
    found = []
    for model, some in zip(models, (in_bytes, [block.float() for block in in_bytes]), strict=True):
        x, _ = model.describe(some, rgb)
        model.add()
        model.learn(x, shares_of(kinds, 2))
        found.append((x, scores(model, some, rgb)))
    torch.testing.assert_close(found[0], found[1])
    exact, _ = AppearanceModel(CPU).describe(blocks, rgb)
    torch.testing.assert_close(found[0][0] @ found[0][0].T, exact @ exact.T, rtol=0.05, atol=0.05)


def test_what_a_layer_of_a_greater_stride_sees_is_enlarged():
    """Surfaces that it alone tells apart are told, and what is twice as strong is as like."""
    kinds = np.zeros(GRID, np.int64)
    kinds[:, 8:] = 1
    fine, coarse = surface(0, 0)
    same = [fine.expand(-1, 2 * GRID[0], 2 * GRID[1]), coarse.expand(-1, *GRID)]
    rgb = torch.zeros(3, 4 * GRID[0], 4 * GRID[1], dtype=torch.uint8)
    coarser = torch.from_numpy(kinds[::2, ::2] == 1)
    third = torch.where(coarser, surface(1, 0)[1][:, :6, :8], surface(2, 0)[1][:, :6, :8])
    model = AppearanceModel(CPU)
    model.add()
    x, grid = model.describe([*same, third], rgb)
    assert (grid, x.shape) == (GRID, (GRID[0] * GRID[1], CHANNELS[0] + CHANNELS[1] + DIMENSIONS[2] + 10))
    model.learn(x, shares_of(kinds, 2))
    assert right(scores(model, [*same, third], rgb), kinds) > 0.9
    doubled, _ = model.describe([*same, 2 * third], rgb)
    torch.testing.assert_close(doubled, x)
    without = AppearanceModel(CPU)
    without.add()
    x, _ = without.describe(same, rgb)
    without.learn(x, shares_of(kinds, 2))
    assert right(scores(without, same, rgb), kinds) < right(scores(model, [*same, third], rgb), kinds) - 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 51), (23, 1), (5, 8), (60, 107)])
def test_a_coarser_layer_lies_where_it_saw_over_a_grid_of_any_size(size):
    coarse = (-(-size[0] // 2), -(-size[1] // 2))
    columns = torch.arange(coarse[1]).float().expand(1, *coarse)
    found = appearance._enlarged(columns.flatten(1).T, columns, size).view(size)
    expected = ((torch.arange(size[1]) + 0.5) / 2 - 0.5).clamp(0, coarse[1] - 1)
    torch.testing.assert_close(found, expected.expand(size))


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (1, 1)])
def test_the_means_of_bytes_are_those_of_floats(size):
    features = torch.randint(0, 256, (5, *size), dtype=torch.uint8)
    features[0] = 255
    assert torch.equal(halved(features), halved(features.float()))


def test_what_few_blocks_show_is_learned_as_if_all_counted():
    """A class without a share in most of the blocks takes in its own alone."""
    x = torch.rand(200, 7)
    weight = torch.zeros(200)
    weight[30:90] = torch.rand(60)
    weighed = x * (weight / weight.sum())[:, None]
    torch.testing.assert_close(appearance._moment(x, weight), weighed.T @ x)


def test_an_odd_grid_fits_its_picture():
    model = AppearanceModel(CPU)
    x, grid = model.describe([torch.rand(24, 13, 9), torch.rand(40, 7, 5)], torch.zeros(3, 25, 17, dtype=torch.uint8))
    assert grid == (7, 5)
    assert x.shape[0] == 35


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_flat_picture_is_described(value):
    model = AppearanceModel(CPU)
    blocks = [torch.full((128, 2 * GRID[0], 2 * GRID[1]), value), torch.full((256, *GRID), value)]
    rgb = torch.zeros(3, 4 * GRID[0], 4 * GRID[1], dtype=torch.uint8)
    x, _ = model.describe(blocks, rgb)
    assert x.isfinite().all()
    model.add()
    model.learn(x, shares_of(layout((2, 2, 5, 5)), 2))
    found = scores(model, blocks, rgb)
    torch.testing.assert_close(found, torch.full_like(found, 0.5), atol=0.01, rtol=0)  # all look alike: it cannot tell


def test_two_surfaces_are_told_apart_in_another_place_and_frame():
    model, _ = model_of(layout((2, 2, 5, 5)))
    moved = layout((5, 9, 6, 4))
    found = scores(model, *scene(moved, seed=1))
    assert found.shape == (GRID[0] * GRID[1], 2)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert right(found, moved) > 0.98


def test_a_small_object_counts_as_much_as_a_large_one():
    kinds = layout((3, 3, 2, 2))  # 4 of 192 blocks
    model, _ = model_of(kinds)
    inside = scores(model, *scene(kinds, seed=1))[:, 1].numpy()[kinds.ravel() == 1]
    assert (inside > 0.8).all()
    larger = layout((1, 1, 9, 14))
    assert right(scores(model, *scene(larger, seed=2)), larger) > 0.95


def test_several_objects_at_once():
    kinds = layout((1, 1, 4, 4), (1, 8, 4, 4), (7, 1, 4, 4), (7, 8, 4, 4))
    model, _ = model_of(kinds)
    assert model.classes == 5
    found = scores(model, *scene(kinds, seed=1))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert right(found, kinds) > 0.98


def test_there_is_one_solve_however_many_objects(monkeypatch):
    solves, real = list[tuple[int, ...]](), torch.linalg.solve_ex

    def counted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        solves.append(tuple(b.shape))
        return real(a, b)

    monkeypatch.setattr(torch.linalg, "solve_ex", counted)
    kinds = layout((1, 1, 4, 4), (1, 8, 4, 4), (7, 1, 4, 4))
    model, x = model_of(kinds)
    scores(model, *scene(kinds))
    assert solves == [(x.shape[1], 4)]


def test_what_has_learned_nothing_is_nowhere():
    kinds = layout((2, 2, 5, 5))
    model, _ = model_of(kinds)
    assert model.add() == 2
    found = scores(model, *scene(kinds))
    assert found.shape[1] == 3
    assert (found[:, 2] == 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert right(found, kinds) > 0.98


def test_a_model_is_known_once_the_background_and_an_object_are():
    kinds = layout((2, 2, 5, 5))
    model = AppearanceModel(CPU)
    assert not model.known
    model.add()
    x, _ = model.describe(*scene(kinds))
    model.learn(x, shares_of(kinds, 2), pause=[1])
    assert not model.known
    assert [model.knows(k) for k in range(2)] == [True, False]
    model.learn(x, shares_of(kinds, 2))
    assert model.known
    model.renew(1)
    assert not model.known
    model.reset()
    assert (model.known, model.classes) == (False, 1)


def test_an_object_that_comes_later_is_learned_and_the_others_stay():
    kinds = layout((1, 1, 4, 4), (7, 8, 4, 4))
    model = AppearanceModel(CPU)
    model.add()
    x, _ = model.describe(*scene(kinds))
    model.learn(x, shares_of(np.where(kinds == 2, 0, kinds), 2))
    model.add()
    model.renew(0)
    model.learn(x, shares_of(kinds, 3))
    assert right(scores(model, *scene(kinds, seed=1)), kinds) > 0.98


def test_a_class_that_is_renewed_takes_another_look():
    model, x = model_of(layout((1, 1, 4, 4)))
    kinds = layout((1, 1, 4, 4), (7, 8, 4, 4))
    x, _ = model.describe(*scene(kinds))
    other = np.where(kinds == 2, 1, 0)  # from now on the second surface is meant, and the first is background
    model.renew(0)
    model.renew(1)
    model.learn(x, shares_of(other, 2))
    assert right(scores(model, *scene(kinds)), other) > 0.98


def test_a_paused_class_keeps_what_it_knows():
    kinds = layout((2, 2, 5, 5))
    model, _ = model_of(kinds)
    before = scores(model, *scene(kinds))
    other, _ = model.describe(*scene(layout((0, 0, 12, 16)), seed=3))
    for _ in range(20):
        model.learn(other, torch.ones(2, len(other)), pause=[0, 1])
    assert torch.equal(scores(model, *scene(kinds)), before)


def blended(share: float, seed: int) -> tuple[list[Tensor], Tensor]:
    """The scene of a box whose surface has gone by that share from 1 to 2."""
    kinds = layout((2, 2, 6, 6))
    first, rgb = scene(kinds, seed)
    second, other = scene(np.where(kinds == 1, 2, 0), seed)
    mixed = [torch.lerp(a, b, share) for a, b in zip(first, second, strict=True)]
    return mixed, torch.lerp(rgb.float(), other.float(), share).to(torch.uint8)


def test_a_look_that_changes_is_followed_and_the_first_one_not_forgotten():
    kinds = layout((2, 2, 6, 6))
    inside = kinds.ravel() == 1
    changed = blended(1, 9)
    unlearned = scores(model_of(kinds)[0], *changed)[:, 1].numpy()[inside].mean()
    model, _ = model_of(kinds)
    for i in range(1, 21):
        x, _ = model.describe(*blended(i / 20, i))
        model.learn(x, shares_of(kinds, 2))
    assert scores(model, *changed)[:, 1].numpy()[inside].mean() > max(0.8, unlearned)
    for i in range(60):  # it stays as it is now for long
        x, _ = model.describe(*blended(1, 30 + i))
        model.learn(x, shares_of(kinds, 2))
    assert scores(model, *scene(kinds, seed=99))[:, 1].numpy()[inside].mean() > 0.8


def test_the_first_frame_weighs_as_it_should():
    """A class is its anchor and a mean of the later frames, that leans to the newest."""
    kinds = layout((2, 2, 6, 6))
    model, first = model_of(kinds)
    sure = shares_of(kinds, 2)[1] / 36
    moment = (first * sure[:, None]).T @ first
    torch.testing.assert_close(model._moments(1), moment)
    second, _ = model.describe(*blended(1, 1))
    model.learn(second, shares_of(kinds, 2))
    torch.testing.assert_close(model._moments(1), ANCHOR * moment + (1 - ANCHOR) * (second * sure[:, None]).T @ second)


@pytest.mark.parametrize("passed", [1, 4])
def test_a_look_is_forgotten_by_the_frame(passed):
    """And not by the frame that is looked at."""
    kinds = layout((2, 2, 6, 6))
    model, first = model_of(kinds)
    sure, frames = shares_of(kinds, 2)[1] / 36, [first]
    for i, since in ((1, 1), (2, passed)):
        frames.append(model.describe(*blended(1, i))[0])
        model.learn(frames[-1], shares_of(kinds, 2), passed=since)
    anchor, second, third = ((x * sure[:, None]).T @ x for x in frames)
    kept = FORGET**passed
    torch.testing.assert_close(model._moments(1), ANCHOR * anchor + (1 - ANCHOR) * (kept * second + (1 - kept) * third))


def test_a_guess_is_remembered_as_a_mean_of_all_frames():
    kinds = layout((2, 2, 6, 6))
    model, first = model_of(kinds)
    sure = shares_of(kinds, 2)[1] / 36
    frames = [first] + [model.describe(*blended(i / 3, i))[0] for i in range(1, 4)]
    for x in frames[1:]:
        model.learn(x, shares_of(kinds, 2), loose=[1])
    mean = torch.stack([(x * sure[:, None]).T @ x for x in frames]).mean(0)
    torch.testing.assert_close(model._moments(1), mean)
    for _ in range(120):  # long after, one frame still counts
        model.learn(frames[0], shares_of(kinds, 2), loose=[1])
    torch.testing.assert_close(model._moments(1), (frames[0] * sure[:, None]).T @ frames[0], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("width", [15, 16])
def test_who_has_most_of_a_picture_is_learned_of_every_second_block(width):
    """As on a chessboard, whatever the width: no column and no row is left out; and of a small class all are taken."""
    x = torch.eye(12 * width)
    kinds = np.zeros((12, width), np.int64)
    kinds[2:5, 3:7] = 1
    model = AppearanceModel(CPU)
    model.add()
    model.learn(x, shares_of(kinds, 2), grid=(12, width))
    learned = [(model._moments(k).diagonal() > 0).view(12, width).numpy() for k in range(2)]
    np.testing.assert_array_equal(learned[1], kinds == 1)
    assert learned[0].sum() == pytest.approx((kinds == 0).sum() / 2, abs=1)
    assert not (learned[0][:, 1:] & learned[0][:, :-1]).any()
    assert not (learned[0][1:] & learned[0][:-1]).any()
    model.renew(0)
    model.learn(x, shares_of(kinds, 2))
    assert ((model._moments(0).diagonal() > 0).view(12, width).numpy() == (kinds == 0)).all()


def test_the_background_near_objects_counts_for_more_where_it_is_first_seen():
    kinds = layout((3, 3, 5, 5))
    model, x = model_of(kinds)
    near = torch.zeros(len(x))
    near[100:110] = 1
    model.renew(0)
    model.learn(x, shares_of(kinds, 2), pause=[1], near=near)
    weight = shares_of(kinds, 2)[0] * (1 + appearance.NEAR_WEIGHT * near)
    torch.testing.assert_close(model._moments(0), (x * (weight / weight.sum())[:, None]).T @ x)
    before = model._moments(1)
    model.learn(x, shares_of(kinds, 2), pause=[0], near=near)
    torch.testing.assert_close(model._moments(1), before)  # an object is what it is wherever it is


def test_a_map_of_scores_is_finer_than_descriptions():
    """A border that lies in the middle of a row of blocks."""
    model, _ = model_of(layout((2, 2, 6, 6)))
    blocks, rgb = scene(layout((2, 2, 6, 6)), seed=1)
    fine, rgb = blocks[0].roll(1, 1), rgb.roll(2, 1)  # by half a block, down
    coarse = torch.lerp(blocks[1], blocks[1].roll(1, 1), 0.5)
    true = torch.zeros(STRIDE * GRID[0], STRIDE * GRID[1], dtype=torch.bool)
    true[10:34, 8:32] = True
    x, grid = model.describe([fine, coarse], rgb)
    found = model.score_map(x, grid, [fine, coarse], rgb)
    assert found.shape == (2, *true.shape)
    torch.testing.assert_close(found.sum(0), torch.ones(true.shape))
    between = (
        coarse_map(model, x, grid, [fine, coarse], rgb)[1].repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)
    )
    wrong = [int(((part > 0.5) != true).sum()) for part in (found[1], between)]
    assert wrong[0] < 0.5 * wrong[1]


def test_a_map_of_scores_says_what_descriptions_do():
    """Where all is alike within blocks and around them."""
    kinds = layout((0, 0, 12, 8))
    model, _ = model_of(kinds)
    blocks, rgb = scene(kinds, spread=0)
    x, grid = model.describe(blocks, rgb)
    model.add()  # nothing is known of it
    found = model.score_map(x, grid, blocks, rgb)
    assert (found[2] == 0).all()
    coarse = coarse_map(model, x, grid, blocks, rgb)
    torch.testing.assert_close(found[:, ::STRIDE, ::STRIDE][:, :, 10:], coarse[:, :, 10:])


def test_a_map_of_scores_of_an_odd_picture():
    model = AppearanceModel(CPU)
    model.add()
    features, rgb = [torch.rand(24, 13, 9), torch.rand(40, 7, 5)], torch.zeros(3, 25, 17, dtype=torch.uint8)
    x, grid = model.describe(features, rgb)
    model.learn(x, torch.rand(2, 35))
    assert model.score_map(x, grid, features, rgb).shape == (2, 25, 17)


def test_unsure_blocks_teach_nothing():
    kinds = layout((2, 2, 5, 5))
    one, x = model_of(kinds)
    two = AppearanceModel(CPU)
    two.add()
    two.describe(*scene(kinds))
    shares = shares_of(kinds, 2)
    doubtful = shares.clone()
    doubtful[:, :10] = 0.5  # of the first row, background
    two.learn(x, doubtful)
    shares[:, :10] = 0
    one.renew(0)
    one.learn(x, shares, pause=[1])
    torch.testing.assert_close(scores(two, *scene(kinds)), scores(one, *scene(kinds)))


def test_everything_is_the_same_every_time():
    kinds = layout((1, 1, 4, 4), (7, 8, 4, 4))
    first, x = model_of(kinds)
    second, y = model_of(kinds)
    assert torch.equal(x, y)
    assert torch.equal(scores(first, *scene(kinds)), scores(second, *scene(kinds)))


def test_a_state_goes_on_alike_through_a_file(tmp_path):
    kinds = layout((1, 1, 4, 4), (7, 8, 4, 4))
    model, _ = model_of(kinds)
    model.add()  # nothing is known of it, nor of
    model.renew(2)
    other = AppearanceModel(CPU)
    write_state(tmp_path / "state", model.state_dict())
    other.load_state_dict(read_state(tmp_path / "state"))
    assert other.classes == model.classes == 4
    for seed in range(1, 4):
        (x, _), (y, _) = (some.describe(*scene(kinds, seed)) for some in (model, other))
        assert torch.equal(x, y)
        assert torch.equal(*(scores(some, *scene(kinds, seed)) for some in (model, other)))
        for some in (model, other):
            some.learn(x, shares_of(kinds, 4), pause=[3])


def test_a_state_is_not_changed_by_what_is_learned_after_it():
    kinds = layout((1, 1, 4, 4))
    model, _ = model_of(kinds)
    state = model.state_dict()
    before = [moment.copy() for moment in state["anchor"]]
    for seed in range(3):
        model.learn(model.describe(*scene(kinds, seed))[0], shares_of(kinds, 2))
    model.add()
    assert len(state["anchor"]) == len(state["recent"]) == 2
    assert all(np.array_equal(a, b) for a, b in zip(before, state["anchor"], strict=True))
