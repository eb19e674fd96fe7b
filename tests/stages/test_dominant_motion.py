import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.stages.dominant_motion import POINTS, _beside, _fitted, _grid, dominant_motion
from tests.stages.test_no_float64 import NoFloat64

HEIGHT, WIDTH = 240, 427
PAN = [[1, 0, 5.5], [0, 1, -3.25], [0, 0, 1]]
TURN = [[0.9994, -0.0349, 4], [0.0349, 0.9994, -7], [0, 0, 1]]
ZOOM = [[1.04, 0, -8.5], [0, 1.04, -4.8], [0, 0, 1]]
TILT = [[1.01, 0.02, 3], [-0.015, 0.99, -2], [6e-5, -4e-5, 1]]
CAMERAS = {"pan": PAN, "turn": TURN, "zoom": ZOOM, "tilt": TILT}
OBJECTS = {
    "left": (slice(None), slice(0, 170)),
    "corner": (slice(90, None), slice(157, None)),
    "middle": (slice(40, 200), slice(90, 340)),
}
"""Rectangles of 39 to 40 % of the frame."""


def flow_of(homography, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """The flow [1, H, W, 2] of a camera's homography, worked out in double."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    went = np.stack([x, y, np.ones_like(x)], -1) @ np.asarray(homography, np.float64).T
    return torch.from_numpy(went[..., :2] / went[..., 2:] - np.stack([x, y], -1)).float()[None]


def furthest(homography: torch.Tensor, truth) -> float:
    """Largest distance in px between two homographies' motions, over the frame."""
    return (flow_of(homography[0].numpy()) - flow_of(truth)).norm(dim=-1).max().item()


def motion_and_residual(flow: torch.Tensor, weight: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The camera's homography, and how far [N, H, W] px each pixel's flow is from it."""
    homography, own = dominant_motion(flow, weight)
    return homography, own.norm(dim=1)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_alone_is_found_exactly(name):
    homography, residual = motion_and_residual(flow_of(CAMERAS[name]))
    assert (homography.shape, residual.shape) == ((1, 3, 3), (1, HEIGHT, WIDTH))
    assert homography.dtype == residual.dtype == torch.float32
    assert homography[0, 2, 2] == 1
    assert furthest(homography, CAMERAS[name]) < 2e-3
    assert residual.max() < 2e-3


@pytest.mark.parametrize("place", OBJECTS)
@pytest.mark.parametrize("name", CAMERAS)
def test_an_object_of_two_fifths_of_the_frame_changes_nothing(name, place):
    flow = flow_of(CAMERAS[name])
    flow[0][OBJECTS[place]] = torch.tensor([9.0, 12.0])
    moving = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    moving[OBJECTS[place]] = True
    assert 0.38 < moving.float().mean() < 0.41
    homography, residual = motion_and_residual(flow)
    assert furthest(homography, CAMERAS[name]) < 0.1
    truth = (flow - flow_of(CAMERAS[name])).norm(dim=-1)
    torch.testing.assert_close(residual, truth, rtol=0, atol=0.1)
    assert residual[0][~moving].max() < 0.1


def test_two_objects_that_part_are_both_left_out():
    flow = flow_of(TILT)
    flow[0, :, :85] = torch.tensor([-6.0, 2.0])
    flow[0, :, 342:] = torch.tensor([14.0, 2.0])
    assert furthest(dominant_motion(flow)[0], TILT) < 0.1


@pytest.mark.parametrize("place", OBJECTS)
def test_noise_is_averaged(place):
    flow = flow_of(TILT) + 0.3 * torch.randn(1, HEIGHT, WIDTH, 2)
    flow[0][OBJECTS[place]] += torch.tensor([9.0, 12.0])
    homography, _ = dominant_motion(flow)
    assert (flow_of(homography[0].numpy()) - flow_of(TILT)).norm(dim=-1).mean() < 0.15


def test_what_has_no_weight_is_not_asked():
    flow = flow_of(ZOOM)
    flow[0, :, 100:] = torch.tensor([9.0, 12.0])  # three quarters: without a weight this would be the camera
    still = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    still[0, :, :100] = True
    for weight in (still, still.float(), still.float() * 0.3):
        homography, residual = motion_and_residual(flow, weight)
        assert residual[still].max() < 2e-3
        assert furthest(homography, ZOOM) < 0.1
    assert furthest(dominant_motion(flow)[0], ZOOM) > 5


def test_inlier_px_says_what_agrees():
    flow = flow_of(PAN)
    flow[0, :, ::2] += torch.tensor([0.0, 2.0])  # half of the pixels, and so of the points, 2 px apart
    coarse = dominant_motion(flow, inlier_px=20)[0][0, 1, 2].item()
    fine = dominant_motion(flow, inlier_px=0.1)[0][0, 1, 2].item()
    assert abs(coarse + 2.25) < 0.3
    assert min(abs(fine + 3.25), abs(fine + 1.25)) < 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (1, 300), (300, 1), (5, 40)])
def test_tiny_pictures_have_a_motion(size):
    flow = torch.zeros(1, *size, 2) + torch.tensor([2.0, -1.0])
    homography, residual = motion_and_residual(flow)
    assert torch.isfinite(homography).all()
    assert residual.max() < 1e-2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 9), (HEIGHT, WIDTH)])
def test_no_flow_is_no_motion(size):
    homography, residual = motion_and_residual(torch.zeros(2, *size, 2))
    torch.testing.assert_close(homography, torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-6)
    assert residual.max() < 1e-3


def test_where_nothing_counts_there_is_no_motion():
    homography, residual = motion_and_residual(flow_of(PAN), torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool))
    torch.testing.assert_close(homography[0], torch.eye(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(residual, flow_of(PAN).norm(dim=-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 0, 6), (2, 5, 0)])
def test_nothing_gives_nothing(shape):
    homography, residual = motion_and_residual(torch.zeros(*shape, 2))
    assert torch.equal(homography, torch.eye(3).expand(shape[0], 3, 3))
    assert residual.shape == shape


def test_a_flow_of_noise_has_some_motion():
    homography, residual = motion_and_residual(50 * torch.randn(4, 60, 80, 2))
    assert torch.isfinite(homography).all()
    assert torch.isfinite(residual).all()


def test_frames_of_a_batch_do_not_know_each_other():
    flow = torch.cat([flow_of(camera) for camera in CAMERAS.values()]) + 0.3 * torch.randn(4, HEIGHT, WIDTH, 2)
    flow[:, 20:120, 50:250] += 7
    together = dominant_motion(flow)
    assert all(torch.equal(*pair) for pair in zip(together, dominant_motion(flow), strict=True))
    for k in range(4):
        alone = dominant_motion(flow[k : k + 1])
        assert torch.equal(alone[0][0], together[0][k])
        assert torch.equal(alone[1][0], together[1][k])


def test_a_batch_at_once_is_its_frames_one_by_one():
    """A CPU goes frame by frame; other devices do all frames together, as here."""
    flow = torch.cat([flow_of(camera) for camera in CAMERAS.values()]) + 0.3 * torch.randn(4, HEIGHT, WIDTH, 2)
    flow[:, 20:120, 50:250] += 7
    weight = torch.rand(4, HEIGHT, WIDTH)
    torch.testing.assert_close(_fitted(flow, weight, 1.0), dominant_motion(flow, weight)[0], rtol=1e-4, atol=1e-3)


def test_what_a_homography_leaves_of_a_flow_is_as_long_as_the_residual():
    flow = flow_of(TILT) + torch.tensor([1.0, -2.0])
    left = _beside(flow, torch.tensor(TILT)[None])
    assert left.shape == (1, 2, HEIGHT, WIDTH)
    torch.testing.assert_close(left[0].flatten(1).mean(1), torch.tensor([1.0, -2.0]), rtol=0, atol=1e-3)
    homography, residual = motion_and_residual(flow)
    torch.testing.assert_close(_beside(flow, homography)[0].norm(dim=0), residual[0])


@settings(max_examples=25)
@given(
    dx=st.floats(-40, 40),
    dy=st.floats(-40, 40),
    turn=st.floats(-0.1, 0.1),
    zoom=st.floats(0.9, 1.1),
    far=st.tuples(st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4)),
)
def test_any_camera_is_found(dx, dy, turn, zoom, far):
    camera = [[zoom * np.cos(turn), -np.sin(turn), dx], [np.sin(turn), zoom * np.cos(turn), dy], [*far, 1]]
    assert furthest(dominant_motion(flow_of(camera))[0], camera) < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (24, 21), (240, 427), (1080, 1920)])
def test_points_lie_in_the_picture_evenly(size):
    rows, columns = _grid(*size, torch.device("cpu"))
    assert 0 < len(rows) <= POINTS
    for at, length in ((rows, size[0]), (columns, size[1])):
        assert at.min() >= 0
        assert abs(at.min() - (length - 1 - at.max())) <= 1


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_it_needs_no_float64(device):
    with NoFloat64():
        dominant_motion(torch.zeros(2, 9, 12, 2, device=device), torch.ones(2, 9, 12, device=device))


@pytest.mark.parametrize(
    ("flow", "weight", "shown"),
    [
        (torch.zeros(4, 5, 2), None, "torch.float32 [4, 5, 2]"),
        (torch.zeros(1, 4, 5, 3), None, "torch.float32 [1, 4, 5, 3]"),
        (torch.zeros(1, 4, 5, 2).half(), None, "torch.float16 [1, 4, 5, 2]"),
        (torch.zeros(1, 4, 5, 2), torch.ones(4, 5), "torch.float32 [4, 5]"),
        (torch.zeros(1, 4, 5, 2), torch.ones(1, 4, 5).int(), "torch.int32 [1, 4, 5]"),
    ],
)
def test_another_shape_or_type_is_refused_and_shown(flow, weight, shown):
    with pytest.raises(ShapeError) as error:
        dominant_motion(flow, weight)
    assert shown in str(error.value)
