import re

import cv2
import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import optical_flow as stage
from streamstyle.stages import optical_flow_ref as reference
from streamstyle.stages.optical_flow import (
    MOST_PX,
    SMALLEST_PX,
    OpticalFlow,
    carry_labels,
    lengths,
    occlusion,
    optical_flow,
)
from tests import oracles
from tests.clips import data

HEIGHT, WIDTH, MARGIN = 160, 200, 24


def window(right: int, down: int) -> np.ndarray:
    """A view of one large textured picture whose content has moved right and down."""
    texture = (oracles.smooth(np.random.default_rng(3), HEIGHT + 80, WIDTH + 80, 2.5) * 255).astype(np.uint8)
    return np.ascontiguousarray(texture[40 - down : 40 - down + HEIGHT, 40 - right : 40 - right + WIDTH])


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (0, -2), (3, 2), (-6, 4), (10, 0)])
def test_a_known_shift_is_found(right, down):
    flow = OpticalFlow()
    assert flow.step(window(0, 0)) is None
    found = flow.step(window(right, down))
    assert found.shape == (HEIGHT, WIDTH, 2)
    assert found.dtype == np.float32
    middle = found[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert np.abs(middle - (-right, -down)).max() < 0.5


def test_a_careful_search_is_another_where_it_only_carries():
    """It finds the shift all the same, and the next frame's from there; one that is quick anyway is as it was."""
    for careful_px in (None, stage.DENSE_PX, stage.SPARSE_PX):
        found = []
        for to_carry in (False, True):
            flow = OpticalFlow(careful_px=careful_px)
            flow.step(window(0, 0), to_carry=to_carry)
            first, then = (flow.step(window(at, 2), to_carry=to_carry) for at in (3, 7))
            for way, right, down in ((first, 3, 2), (then, 4, 0)):
                assert np.abs(way[MARGIN:-MARGIN, MARGIN:-MARGIN] - (-right, -down)).max() < 0.5
            found.append(first)
        assert np.array_equal(*found) == (careful_px is None)


@pytest.mark.parametrize(("right", "down"), [(3, 2), (-6, 4)])
def test_labels_are_carried_by_the_shift(right, down):
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[60:100, 70:120] = 1234
    flow = OpticalFlow()
    flow.step(window(0, 0))
    carried = carry_labels(labels, flow.step(window(right, down)))
    assert carried.dtype == np.int32
    expected = np.roll(labels, (down, right), (0, 1))
    assert ((carried > 0) & (expected > 0)).sum() > 0.97 * ((carried > 0) | (expected > 0)).sum()
    assert np.unique(carried).tolist() == [0, 1234]


def test_labels_carried_by_an_exact_flow_are_moved_exactly():
    labels = np.random.default_rng(0).integers(0, 32768, (9, 11)).astype(np.int32)
    flow = np.zeros((9, 11, 2), np.float32) + np.float32([2, -1])
    expected = np.pad(labels, ((1, 0), (0, 2)), mode="edge")[:9, 2:]
    np.testing.assert_array_equal(carry_labels(labels, flow), expected)


def test_no_motion_carries_nothing():
    labels = np.ones((4, 5), np.int32)
    assert carry_labels(labels, None) is labels


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 300), (300, 16), (SMALLEST_PX - 1, 96), (31, 2000)])
def test_pictures_too_small_for_the_search_have_no_flow(size):
    flow = OpticalFlow()
    for _ in range(3):
        assert flow.step(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)) is None


@pytest.mark.parametrize("size", [(32, 32), (32, 2000), (2000, 33), (63, 64)])
def test_the_smallest_pictures_it_takes(size):
    flow = OpticalFlow()
    luma = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    flow.step(luma)
    assert np.isfinite(flow.step(np.roll(luma, 1, 1))).all()


def test_a_cut_or_another_size_starts_again():
    flow = OpticalFlow()
    flow.step(window(0, 0))
    assert flow.step(window(1, 0)[:100].copy()) is None
    assert flow.step(window(1, 0)[:100].copy()) is not None
    flow.reset()
    assert flow.step(window(1, 0)[:100].copy()) is None


def test_the_same_pictures_give_the_same_flow():
    twice = []
    for _ in range(2):
        flow = OpticalFlow()
        flow.step(window(0, 0))
        twice.append(flow.step(window(3, 2)))
    np.testing.assert_array_equal(*twice)


@pytest.mark.parametrize(
    "luma", [np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40), np.float32)], ids=["3-D", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(luma):
    with pytest.raises(ShapeError) as error:
        OpticalFlow().step(luma)
    assert f"{luma.dtype} {list(luma.shape)}" in str(error.value)


# -- batches of pictures ----------------------------------------------------------------------------------------------


def natural(seed: int, height: int, width: int) -> np.ndarray:
    """Texture at all sizes, as pictures have it, float32 0 .. 255."""
    rng = np.random.default_rng(seed)
    layers = [sigma * (oracles.smooth(rng, height, width, sigma) - 0.5) for sigma in (1.5, 3, 6, 12)]
    return (np.sum(layers, 0) * 10 + 127).clip(0, 255).astype(np.float32)


def bent(
    matrix: list[list[float]], gain: float = 1.0, lift: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A textured picture, the same moved by an affine matrix about its middle, and the flow between them."""
    texture = natural(5, HEIGHT + 80, WIDTH + 80)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    turn, shift = np.array(matrix)[:, :2], np.array(matrix)[:, 2]
    points = np.stack([x, y], -1) - middle
    flow = points @ (turn - np.eye(2)).T + shift
    came_from = ((points - shift) @ np.linalg.inv(turn).T + middle + 40).astype(np.float32)
    moved = cv2.remap(texture, came_from[..., 0], came_from[..., 1], cv2.INTER_CUBIC)
    pictures = texture[40 : 40 + HEIGHT, 40 : 40 + WIDTH], moved * gain + lift
    source, target = (torch.from_numpy(np.clip(np.rint(p), 0, 255).astype(np.uint8))[None] for p in pictures)
    return source, target, flow


MOTIONS = {
    "still": [[1, 0, 0], [0, 1, 0]],
    "half a pixel": [[1, 0, 0.5], [0, 1, -0.5]],
    "shift": [[1, 0, 6.25], [0, 1, -9.5]],
    "far": [[1, 0, 22], [0, 1, 11]],
    "zoom in": [[1.08, 0, 0], [0, 1.08, 0]],
    "zoom out": [[0.93, 0, 1], [0, 0.93, -2]],
    "turn": [[0.9976, -0.0698, 0], [0.0698, 0.9976, 0]],
}


def off(found: torch.Tensor, truth: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """Distance px from the true flow, away from the border, over which content comes and goes."""
    return np.linalg.norm(found[0].cpu().numpy() - truth, axis=-1)[margin:-margin, margin:-margin]


def test_flows_of_a_batch_are_those_of_its_frames_one_after_another():
    lumas = [window(4 * i, i) for i in range(4)]
    one_by_one, at_once = OpticalFlow(), OpticalFlow()
    expected = [one_by_one.step(luma) for luma in lumas]
    assert expected[0] is None
    batches = [at_once.together(torch.from_numpy(np.stack(lumas[:2])))]
    assert at_once.previous is None
    at_once.previous = lumas[1]
    batches.append(at_once.together(torch.from_numpy(np.stack(lumas[2:]))))
    found = torch.cat(batches).numpy()
    assert not found[0].any()
    np.testing.assert_array_equal(found[1:], expected[1:])


@pytest.mark.parametrize("name", MOTIONS)
def test_a_known_motion_is_found(way, name):
    source, target, truth = bent(MOTIONS[name])
    found = optical_flow(source.to(way.device), target.to(way.device), impl=way.impl)
    assert found.shape == (1, HEIGHT, WIDTH, 2)
    assert found.dtype == torch.float32
    assert off(found, truth).mean() < (0.35 if way.impl == "auto" else 0.12)


@pytest.mark.parametrize(("gain", "lift"), [(1.0, 25.0), (0.8, 20.0)])
def test_a_change_of_light_is_no_motion(way, gain, lift):
    source, target, truth = bent(MOTIONS["shift"], gain, lift)
    found = optical_flow(source.to(way.device), target.to(way.device), impl=way.impl)
    assert off(found, truth).mean() < (0.35 if way.impl == "auto" else 0.2)


SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (1, 90),
    (90, 1),
    (3, 4),
    (7, 8),
    (8, 8),
    (9, 17),
    (15, 130),
    (33, 66),
    (61, 83),
    (130, 70),
]


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_are_the_reference_to_the_last_bit(way, size):
    generator = np.random.default_rng(0)
    noise = torch.from_numpy(generator.integers(0, 256, (2, *size), dtype=np.uint8))
    soft = torch.from_numpy((oracles.smooth(generator, *size, 1.5) * 255).astype(np.uint8))[None]
    source = torch.cat([noise[:1], soft])
    target = torch.cat([noise[1:], soft.roll((size[0] // 3, 2), (1, 2))])
    reference = optical_flow(source, target, impl="ref")
    found = optical_flow(source.to(way.device), target.to(way.device), impl=way.impl)
    assert found.shape == (2, *size, 2)
    assert torch.isfinite(found).all()
    if way.impl != "auto" or min(size) < SMALLEST_PX:
        assert torch.equal(found.cpu(), reference)


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (60, 90)])
@pytest.mark.parametrize("level", [None, 0, 255])
def test_what_is_equal_does_not_move(way, size, level):
    pictures = torch.randint(0, 256, (2, *size), dtype=torch.uint8, device=way.device)
    if level is not None:
        pictures.fill_(level)
    found = optical_flow(pictures, pictures.clone(), impl=way.impl)
    assert found.abs().max() < 0.01 if way.impl == "auto" else not found.any()


def test_flat_pictures_of_two_levels_do_not_move(way):
    dark, light = (torch.full((1, 70, 80), level, dtype=torch.uint8, device=way.device) for level in (10, 240))
    assert optical_flow(dark, light, impl=way.impl).abs().max() < 0.01


@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 0, 6), (2, 5, 0)])
def test_nothing_has_no_flow(way, shape):
    nothing = torch.zeros(shape, dtype=torch.uint8, device=way.device)
    assert optical_flow(nothing, nothing, impl=way.impl).shape == (*shape, 2)
    flow = torch.zeros(*shape, 2, device=way.device)
    assert occlusion(flow, flow, impl=way.impl).shape == shape


def test_frames_of_a_batch_do_not_know_each_other(way):
    pairs = [bent(MOTIONS[name])[:2] for name in ("shift", "turn", "zoom in")]
    source, target = (torch.cat(pictures).to(way.device) for pictures in zip(*pairs, strict=True))
    together = optical_flow(source, target, impl=way.impl)
    for k in range(3):
        alone = optical_flow(source[k : k + 1], target[k : k + 1], impl=way.impl)
        assert torch.equal(alone[0], together[k])


def test_other_strides_are_taken(way):
    source, target, _ = bent(MOTIONS["shift"])
    straight = optical_flow(source.to(way.device), target.to(way.device), impl=way.impl)
    wide = [picture.repeat_interleave(2, 2).to(way.device)[:, :, ::2] for picture in (source, target)]
    assert torch.equal(optical_flow(*wide, impl=way.impl), straight)


def truth(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two pictures, uint8 [H, W], and the true flow [H, W, 2] from the first to the second."""
    pictures = [cv2.imread(str(data(f"flow_gt/{name}_img{k}.ppm")), cv2.IMREAD_GRAYSCALE) for k in (1, 2)]
    raw = data(f"flow_gt/{name}_flow.flo").read_bytes()
    width, height = np.frombuffer(raw, "<i4", 2, 4)
    return pictures[0], pictures[1], np.frombuffer(raw, "<f4", offset=12).reshape(height, width, 2)


@pytest.mark.parametrize("impl", ["auto", "ref"])
@pytest.mark.parametrize(("name", "fast", "ours"), [("00001", 3.3, 2.45), ("00002", 0.76, 0.66)])
def test_the_true_flow_of_rendered_pictures(impl, name, fast, ours):
    source, target, flow = truth(name)
    found = optical_flow(torch.from_numpy(source)[None], torch.from_numpy(target)[None], impl=impl)
    error_px = np.linalg.norm(found[0].numpy() - flow, axis=-1).mean()
    assert error_px < (fast if impl == "auto" else ours)


# -- what cannot be followed ------------------------------------------------------------------------------------------

TOP, LEFT, SIDE, RIGHT, DOWN = 30, 40, 24, 7, 4


def moving_square() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The exact flows there and back of a square that moves over a still ground, and what it comes to hide."""
    forward, backward = torch.zeros(2, 80, 110, 2).split(1)
    before, after = (torch.zeros(1, 80, 110, dtype=torch.bool) for _ in range(2))
    before[0, TOP : TOP + SIDE, LEFT : LEFT + SIDE] = True
    after[0, TOP + DOWN : TOP + DOWN + SIDE, LEFT + RIGHT : LEFT + RIGHT + SIDE] = True
    forward[before] = torch.tensor([float(RIGHT), DOWN])
    backward[after] = -torch.tensor([float(RIGHT), DOWN])
    return forward, backward, after & ~before


def test_what_a_moving_square_hides_is_found_exactly(way):
    forward, backward, hidden = (tensor.to(way.device) for tensor in moving_square())
    found = occlusion(forward, backward, impl=way.impl)
    assert found.dtype == torch.bool
    assert torch.equal(found, hidden)
    # Seen from the later picture, what it had hidden comes to light.
    again = occlusion(backward, forward, impl=way.impl)
    assert torch.equal(again, (backward[..., 0] == 0) & (forward[..., 0] != 0))


def test_what_leaves_the_picture_is_hidden(way):
    forward = torch.zeros(1, 20, 30, 2, device=way.device) + torch.tensor([5.0, -3.0], device=way.device)
    found = occlusion(forward, -forward, impl=way.impl)
    expected = torch.zeros(1, 20, 30, dtype=torch.bool)
    expected[:, :3] = expected[:, :, 25:] = True
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("reach", [0.6, 1e9])
def test_occlusion_of_any_flow_is_the_references(way, reach):
    forward = reach * torch.randn(3, 41, 57, 2)
    backward = -forward + 0.5 * torch.randn(3, 41, 57, 2)
    expected = occlusion(forward, backward, impl="ref")
    found = occlusion(forward.to(way.device), backward.to(way.device), impl=way.impl).cpu()
    assert expected.float().mean() > 0.05
    if way.impl == "auto":
        assert (found != expected).float().mean() < 0.02
    else:
        assert torch.equal(found, expected)


def test_a_flow_may_begin_anywhere_in_memory(way):
    forward, backward = (torch.randn(1, 12, 15, 2, device=way.device) for _ in range(2))
    views = [torch.cat([flow.new_zeros(1), flow.flatten()])[1:].view_as(flow) for flow in (forward, backward)]
    assert torch.equal(occlusion(*views, impl=way.impl), occlusion(forward, backward, impl=way.impl))


def test_the_threshold_is_the_published_one(way):
    forward = torch.zeros(1, 1, 4, 2, device=way.device)
    backward = torch.zeros(1, 1, 4, 2, device=way.device)
    backward[0, 0, :, 1] = torch.tensor([0.70, 0.709, 0.72, 5.0], device=way.device)  # sqrt(0.5 / 0.99) is 0.7107
    assert occlusion(forward, backward, impl=way.impl).tolist() == [[[False, False, True, True]]]
    assert occlusion(forward, backward, share=0, slack_px2=0.5, impl=way.impl).tolist() == [[[False, True, True, True]]]
    assert occlusion(forward, backward, share=1.1, impl=way.impl).tolist() == [[[False] * 4]]


def test_the_hidden_part_of_a_real_pair_is_found_by_its_own_flow(way):
    ground, thing = natural(1, 120, 160).astype(np.uint8), natural(2, 40, 40).astype(np.uint8)
    pictures = [ground.copy(), ground.copy()]
    pictures[0][40:80, 50:90] = pictures[1][40:80, 62:102] = thing
    source, target = (torch.from_numpy(picture)[None].to(way.device) for picture in pictures)
    forward, backward = (optical_flow(*pair, impl=way.impl) for pair in ((source, target), (target, source)))
    found = occlusion(forward, backward, impl=way.impl)[0].cpu().numpy()
    hidden = np.zeros((120, 160), bool)
    hidden[40:80, 90:102] = True
    assert found[hidden].mean() > 0.6
    assert found[~hidden].mean() < (0.15 if way.impl == "auto" else 0.08)


@pytest.mark.parametrize(
    ("source", "target", "shown"),
    [
        (torch.zeros(1, 4, 5), torch.zeros(1, 4, 5), "torch.float32 [1, 4, 5]"),
        (torch.zeros(4, 5).byte(), torch.zeros(4, 5).byte(), "torch.uint8 [4, 5]"),
        (torch.zeros(1, 4, 5).byte(), torch.zeros(1, 4, 6).byte(), "torch.uint8 [1, 4, 6]"),
        (torch.zeros(1, 4, 5).byte(), torch.zeros(1, 4, 5).byte().to("meta"), "cpu and meta"),
        (torch.zeros(1, 1, MOST_PX + 1).byte(), torch.zeros(1, 1, MOST_PX + 1).byte(), str(MOST_PX + 1)),
    ],
)
def test_other_pictures_are_refused_and_shown(source, target, shown):
    with pytest.raises(ShapeError) as error:
        optical_flow(source, target)
    assert shown in str(error.value)


@pytest.mark.parametrize(
    ("forward", "backward", "shown"),
    [
        (torch.zeros(1, 4, 5, 3), torch.zeros(1, 4, 5, 3), "[1, 4, 5, 3]"),
        (torch.zeros(4, 5, 2), torch.zeros(4, 5, 2), "torch.float32 [4, 5, 2]"),
        (torch.zeros(1, 4, 5, 2), torch.zeros(1, 5, 4, 2), "torch.float32 [1, 5, 4, 2]"),
        (torch.zeros(1, 4, 5, 2).half(), torch.zeros(1, 4, 5, 2).half(), "torch.float16 [1, 4, 5, 2]"),
    ],
)
def test_other_flows_are_refused_and_shown(forward, backward, shown):
    with pytest.raises(ShapeError) as error:
        occlusion(forward, backward)
    assert shown in str(error.value)


def test_the_kernels_constants_are_the_stages():
    text = kernels.source("optical_flow").read_text()
    for name, value in (
        *(("PATCH", reference.PATCH_PX), ("STRIDE", reference.STRIDE_PX), ("STEPS", reference.STEPS)),
        *(("DAMPING", reference.DAMPING), ("SWEEPS", reference.SWEEPS), ("TILE", stage.TILE_PX)),
    ):
        assert re.search(rf"^#define {name} {value}\b", text, re.MULTILINE), name


def test_lengths_are_those_of_each_pair_also_where_some_are_left_out():
    flow = np.random.default_rng(0).normal(0, 3, (9, 12, 2)).astype(np.float32)
    for part in (flow, flow[::2, ::3]):
        found = lengths(part)
        np.testing.assert_allclose(found, np.linalg.norm(part, axis=2), rtol=1e-6)
        assert found.dtype == np.float32
