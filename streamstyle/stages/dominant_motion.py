"""The camera's motion: one homography that most of the flow agrees with, and what it leaves of each pixel's flow.

::

    flow on a coarse grid      affine motions of triples      the best of them, refined       what moves by itself
    → → → → → → → →            triple 1:  cost 310            as a homography, points
    → → ↑ ↑ → → → →      →     triple 2:  cost  91      →     that disagree weighing    →     own = flow - H
    → → ↑ ↑ → → → →            ...                            less and less

On eight DAVIS sequences the residual of OpenCV's flow tells the object's pixels from the rest with an area under the
ROC curve of .95 (.96 with the kernels' flow); the length of the flow itself with .16, for cameras follow objects.

The triples are the same each time (a low-discrepancy sequence), so the same flow gives the same motion.

Source: Fischler and Bolles 1981 (sample consensus), Torr and Zisserman 2000 (soft scores), Geman and McClure 1985 (the
weights), Roberts 2018 (the sequence). Differs: three points propose an affine motion, for four of a real flow propose
wild perspective; the refinement finds the perspective.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import ShapeError

POINTS = 512
"""At most so many points of the flow are asked."""
TRIPLES = 64
"""With 40 % of the points moving by themselves, the odds that no triple is all camera are 1 in 5 million."""
ROUNDS = 5
"""Of the refinement; the last two weigh by inlier_px, the first by four times as much."""
REACHES = (1, 2, 4)
"""A proposal is chosen for each of these, times inlier_px: perspective bends a camera's motion so far away from affine
that an object's plain shift may fit more points closely. Refined, the true one fits the most."""
SMALLEST_AREA = 0.02
"""Of a triple, with the longer side of the picture 2: below it the triple proposes a shift alone."""
RIDGE = 1e-6
"""Pull towards no motion, as a share of the points' weight: it decides only what the points leave open."""
_STEPS = (0.8191725134, 0.6710436067, 0.5497004779)
"""Powers of the root of x^4 = x + 1: steps of the sequence that fills a cube evenly (Roberts 2018)."""


def dominant_motion(flow: Tensor, weight: Tensor | None = None, *, inlier_px: float = 1.0) -> tuple[Tensor, Tensor]:
    """Fit the homography that most of the flow follows.

    Args:
        flow: [N, H, W, 2] float32 (dx, dy) px, finite.
        weight: [N, H, W] bool or float32 0 .. 1, how far each pixel counts; None for all the same. A frame in which
            nothing counts has no motion.
        inlier_px: a point this far off counts a quarter.

    Returns:
        homography: [N, 3, 3] float32, from (x, y, 1) px to where it went, the last entry 1.
        own: [N, 2, H, W] float32 (dx, dy) px, what the homography leaves of the flow of every pixel.

    Raises:
        ShapeError: flow is not float32 [N, H, W, 2], or weight does not fit it.

    Cost: no synchronisation; two reads of the flow. On a CPU 2 to 3 ms a frame at 427x240, on one core.
    """
    _check(flow, weight)
    if flow.numel() == 0:
        still = torch.eye(3, device=flow.device).expand(len(flow), 3, 3).clone()
        return still, flow.new_zeros(len(flow), 2, *flow.shape[1:3])
    if flow.device.type != "cpu":
        homography = _fitted(flow, weight, inlier_px)
    else:  # Note [Few numbers]
        weights = [None] * len(flow) if weight is None else weight.split(1)
        frames = zip(flow.split(1), weights, strict=True)
        homography = torch.cat([_fitted(*frame, inlier_px) for frame in frames])
    return homography, _beside(flow, homography)


def _check(flow: Tensor, weight: Tensor | None) -> None:
    if flow.ndim != 4 or flow.shape[3] != 2 or flow.dtype != torch.float32:
        raise ShapeError(f"flow must be float32 [N, H, W, 2], got {flow.dtype} {[*flow.shape]}")
    if weight is None:
        return
    if weight.shape != flow.shape[:3] or weight.dtype not in (torch.bool, torch.float32):
        raise ShapeError(
            f"weight must be bool or float32 {[*flow.shape[:3]]} as flow is, got {weight.dtype} {[*weight.shape]}"
        )


def _fitted(flow: Tensor, weight: Tensor | None, inlier_px: float) -> Tensor:
    height, width = flow.shape[1:3]
    scale = max(height, width) / 2
    rows, columns = _grid(height, width, flow.device)
    centre = ((width - 1) / 2, (height - 1) / 2)
    points = torch.stack([columns - centre[0], rows - centre[1]], 1) / scale
    moves = flow[:, rows, columns] / scale
    counts = moves.new_ones(moves.shape[:2]) if weight is None else weight[:, rows, columns].float()
    motions = _proposed(points, moves, counts, inlier_px / scale)
    motion = _refined(points, moves, counts, motions, inlier_px / scale)
    return _in_pixels(motion, centre, scale)


def _grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of at most POINTS pixels, spread evenly."""
    step = 1
    while -(-height // step) * -(-width // step) > POINTS:
        step += 1
    rows = torch.arange((height - 1) % step // 2, height, step, device=device)
    columns = torch.arange((width - 1) % step // 2, width, step, device=device)
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    return rows.flatten(), columns.flatten()


def _quantiles(device: torch.device) -> Tensor:
    """[TRIPLES * 3] float32 in 0 .. 1, the same each time; not kept, for each CUDA stream would have to wait for it."""
    counted = torch.arange(1, TRIPLES + 1, device=device)
    # One by one: a tensor of the steps would be copied to the device, which is to wait for it.
    turns = torch.stack([counted * step for step in _STEPS], 1)
    return ((turns + 0.5) % 1).flatten()


def _proposed(points: Tensor, moves: Tensor, counts: Tensor, inlier: float) -> Tensor:
    """The motions [N, REACHES, 8] of the triples that most points agree with, one for each reach; see _refined."""
    affine = _of_triples(points, moves, counts)
    ones = torch.cat([points, points.new_ones(len(points), 1)], 1)
    off_x, off_y = (_product(affine[:, :, k], ones.T).sub_(moves[:, None, :, k]) for k in (0, 1))
    squares = off_x.square_().add_(off_y.square_())
    costs = [(squares / (squares + (reach * inlier) ** 2) * counts[:, None]).sum(2) for reach in REACHES]
    chosen = torch.stack(costs, 2).argmin(1)[..., None]
    best = affine.flatten(2).gather(1, chosen.expand(-1, -1, 6))
    return torch.cat([best, torch.zeros_like(best[..., :2])], 2)


def _of_triples(points: Tensor, moves: Tensor, counts: Tensor) -> Tensor:
    """The affine motions of TRIPLES points that count: [N, TRIPLES, 2, 3], what x, y and 1 add to x and to y."""
    # Whole numbers: sums of floats may depend on the device's order, and with them which points are drawn.
    below = (counts * 255).round().int().cumsum(1)
    wanted = (_quantiles(points.device) * below[:, -1:]).floor()
    drawn = torch.searchsorted(below, wanted.long(), right=True).clamp_(max=len(points) - 1)
    at = points[drawn].unflatten(1, (TRIPLES, 3))
    went = moves.gather(1, drawn[..., None].expand(-1, -1, 2)).unflatten(1, (TRIPLES, 3))
    (a, b), (u, v) = (sides.unbind(2) for sides in (at[:, :, 1:] - at[:, :, :1], went[:, :, 1:] - went[:, :, :1]))
    area = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    share = torch.where(area.abs() < SMALLEST_AREA, 0.0, 1 / area)[..., None]
    along_x = (u * b[..., 1:] - v * a[..., 1:]) * share
    along_y = (v * a[..., :1] - u * b[..., :1]) * share
    shift = went[:, :, 0] - along_x * at[:, :, 0, :1] - along_y * at[:, :, 0, 1:]
    return torch.stack([along_x, along_y, shift], 3)


def _refined(points: Tensor, moves: Tensor, counts: Tensor, motions: Tensor, inlier: float) -> Tensor:
    """The best of the motions [N, S, 8] after least squares, each point weighing by how well it agreed before.

    A motion is (a b c d e f g h): (1 + g x + h y)(x + dx) = x + a x + b y + c, and likewise d e f for y. What is solved
    for is the motion and not the position, so the error of float32 is a share of the motion.
    """
    equations = _equations(points, moves)
    answers, counts = equations.transpose(1, 2), counts[:, None]
    # 1 where nothing counts: the answer is no motion, not 0 / 0.
    ridge = torch.eye(8, device=moves.device) * (RIDGE * counts.sum(2)[..., None, None].clamp(min=1))
    for left in reversed(range(ROUNDS)):
        squares, depth = _distances(points, equations, motions)
        reach = (inlier * max(left, 1)) ** 2
        trust = counts * (reach / (squares + reach)).square_() / depth.square_()
        weighted = equations[:, None, :8] * trust.repeat(1, 1, 2)[:, :, None]
        normal = _product(weighted.flatten(1, 2), answers).unflatten(1, (-1, 8))
        motions = _solved(normal[..., :8] + ridge, normal[..., 8:])[..., 0]
    squares, _ = _distances(points, equations, motions)
    best = (counts * squares / (squares + inlier**2)).sum(2).argmin(1)
    return motions[torch.arange(len(motions), device=motions.device), best]


def _equations(points: Tensor, moves: Tensor) -> Tensor:
    """[N, 9, 2 M]: what each of M points multiplies a motion with, and what that should be; of x, then of y."""
    ahead = (points + moves).transpose(1, 2)
    linear = torch.cat([points.T, points.new_ones(1, len(points))]).expand(len(moves), -1, -1)
    none = torch.zeros_like(linear)
    upper, lower = torch.cat([linear, none], 1), torch.cat([none, linear], 1)
    # [N, 3, 2, M]: of x and of y, what g and h are multiplied with, and the answer.
    others = torch.cat([-ahead[:, None] * points.T[:, None], moves.transpose(1, 2)[:, None]], 1)
    return torch.cat([torch.cat([upper, others[:, :, 0]], 1), torch.cat([lower, others[:, :, 1]], 1)], 2)


def _distances(points: Tensor, equations: Tensor, motions: Tensor) -> tuple[Tensor, Tensor]:
    """Square of how far each point is from motions [N, S, 8], and its depth there: each [N, S, M]."""
    depth = _product(motions[..., 6:], points.T).add_(1)
    off = _product(motions, equations[:, :8]).sub_(equations[:, None, 8]).unflatten(2, (2, -1)).div_(depth[:, :, None])
    return off.square_().sum(2), depth


# Note [Few numbers]
# On a CPU torch hands even these products to all its threads, which takes 20 times as long as the product itself and
# far longer where another program wants a core; NumPy does them where they are.


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, of few numbers."""
    if a.device.type == "cpu":
        return torch.from_numpy(a.numpy() @ b.numpy())
    return a @ b


def _solved(a: Tensor, b: Tensor) -> Tensor:
    """x of a @ x = b, of few numbers; in double where that is at hand."""
    if a.device.type == "cpu":
        return torch.from_numpy(np.linalg.solve(a.numpy().astype(np.float64), b.numpy()).astype(np.float32))
    return torch.linalg.solve_ex(a, b)[0]


def _in_pixels(motion: Tensor, centre: tuple[float, float], scale: float) -> Tensor:
    """The homography [N, 3, 3] between pixels, of a motion between points around the centre."""
    one = torch.eye(3, device=motion.device)
    matrix = torch.cat([motion, torch.zeros_like(motion[:, :1])], 1).unflatten(1, (3, 3)) + one
    to_pixels, to_points = one.clone(), one.clone()
    for axis, middle in enumerate(centre):
        to_pixels[axis, axis], to_pixels[axis, 2] = scale, middle
        to_points[axis, axis], to_points[axis, 2] = 1 / scale, -middle / scale
    homography = _product(_product(to_pixels, matrix), to_points)
    return homography / homography[:, 2:, 2:]


def _beside(flow: Tensor, homography: Tensor) -> Tensor:
    """What the homography leaves of the flow, [N, 2, H, W]; on a CPU by NumPy, see Note [Few numbers]."""
    height, width = flow.shape[1:3]
    if flow.device.type == "cpu":
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        return torch.from_numpy(np.stack(_left(flow.numpy(), homography.numpy(), x, y[:, None]), 1))
    columns, rows = (torch.arange(size, device=flow.device, dtype=torch.float32) for size in (width, height))
    return torch.stack(_left(flow, homography, columns, rows[:, None]), 1)


def _left(flow: Any, homography: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """x and y of _beside, of tensors or of arrays."""
    to_x, to_y, to_1 = ([homography[:, row, column, None, None] for column in range(3)] for row in range(3))
    share = 1 / (to_1[0] * x + (to_1[1] * y + to_1[2]))
    dx = flow[..., 0] - ((to_x[0] * x + (to_x[1] * y + to_x[2])) * share - x)
    dy = flow[..., 1] - ((to_y[0] * x + (to_y[1] * y + to_y[2])) * share - y)
    return dx, dy
