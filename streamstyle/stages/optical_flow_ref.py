"""The specification of kernels/optical_flow.cu in torch: each pass, operation by operation, to the last bit.

Sums over a patch are whole numbers; floats are added, multiplied and divided one operation at a time, which rounds as
IEEE says on every device. One frame at a time: the windows of its patches are 64 numbers a patch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PATCH_PX, STRIDE_PX = 8, 4
ROUNDS = 4
"""Of the search: so far, in patches, a motion spreads at a level."""
STEPS = 4
"""Gauss-Newton steps of a round."""
DAMPING = 4
"""Of a step, in squared levels: keeps patches without texture where they are."""
PASSES, SWEEPS = 4, 4
"""Of the smoothing: equations set up anew, and red-black sweeps over each."""
COARSEST_PX = 64
"""A picture whose longer side is no longer is not halved; nor one whose shorter side would fall under a patch."""
_NEVER = 2**62


def halvings(height: int, width: int) -> int:
    """How often a picture is halved."""
    times = 0
    while max(height, width) > COARSEST_PX and min(height, width) >= 2 * PATCH_PX:
        height, width, times = -(-height // 2), -(-width // 2), times + 1
    return times


def grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of patches: the first is half outside, and every pixel lies in 2 x 2."""
    return -(-height // STRIDE_PX) + 1, -(-width // STRIDE_PX) + 1


def first_motions(flow: Tensor) -> Tensor:
    """The flow [N, H, W, 2] at the middle of each patch, [N, rows, columns, 2]."""
    height, width = flow.shape[1:3]
    rows, columns = (torch.arange(size, device=flow.device) * STRIDE_PX for size in grid(height, width))
    return flow[:, rows.clamp(max=height - 1)][:, :, columns.clamp(max=width - 1)]


def flow_ref(source: Tensor, target: Tensor) -> Tensor:
    """optical_flow of uint8 [N, H, W] pictures that have pixels."""
    pairs = zip(source.split(1), target.split(1), strict=True)
    return torch.cat([_flow_of_frame(*pair) for pair in pairs])


def _flow_of_frame(source: Tensor, target: Tensor) -> Tensor:
    levels = [(source.int(), target.int())]
    for _ in range(halvings(*source.shape[1:])):
        levels.append((_halve(levels[-1][0]), _halve(levels[-1][1])))
    flow = torch.zeros(*levels[-1][0].shape, 2, device=source.device)
    for level in reversed(range(len(levels))):
        here, there = levels[level]
        if flow.shape[:3] != here.shape:
            flow = _enlarge(flow, *here.shape[1:])
        if level == 0 and len(levels) > 1:
            break
        patches = first_motions(flow)
        for _ in range(ROUNDS):
            patches = _search(here, there, patches)
        flow = _blend(here, there, patches)
        for _ in range(PASSES):
            flow = _smooth(here, there, flow)
    return flow


def _shifted(picture: Tensor, down: int, right: int) -> Tensor:
    """The picture [1, H, W, ...] read so far below and to the right, its border going on for ever."""
    height, width = picture.shape[1:3]
    rows = (torch.arange(height, device=picture.device) + down).clamp_(0, height - 1)
    columns = (torch.arange(width, device=picture.device) + right).clamp_(0, width - 1)
    return picture[:, rows][:, :, columns]


def _halve(picture: Tensor) -> Tensor:
    right = _shifted(picture, 0, 1)
    below, beyond = _shifted(picture, 1, 0), _shifted(right, 1, 0)
    return ((picture + right + below + beyond + 2) >> 2)[:, ::2, ::2]


def _enlarge(flow: Tensor, height: int, width: int) -> Tensor:
    """Twice the flow, at twice the size: three quarters of the nearer pixel and one of the farther."""
    for axis, size in ((2, width), (1, height)):
        at = torch.arange(size, device=flow.device)
        near = at >> 1
        far = (near + (at & 1) * 2 - 1).clamp_(0, flow.shape[axis] - 1)
        flow = flow.index_select(axis, near) * 0.75 + flow.index_select(axis, far) * 0.25
    return flow * 2


def _fixed(px: Tensor) -> Tensor:
    """In 1/256 px, int32."""
    return (px * 256 + 0.5).floor().clamp(-(2.0**30), 2.0**30).int()


def _sample(picture: Tensor, y: Tensor, x: Tensor, motion: Tensor) -> Tensor:
    """The int32 picture [1, H, W] at pixels moved, in 1/16 level."""
    height, width = picture.shape[1:]
    right, down = x * 256 + _fixed(motion[..., 0]), y * 256 + _fixed(motion[..., 1])
    rows = [((down >> 8) + step).clamp(0, height - 1) * width for step in (0, 1)]
    columns = [((right >> 8) + step).clamp(0, width - 1) for step in (0, 1)]
    (a, b), (c, d) = ([picture.flatten()[row + column] for column in columns] for row in rows)
    right, down = right & 255, down & 255
    return ((a * (256 - right) + b * right) * (256 - down) + (c * (256 - right) + d * right) * down + 2048) >> 12


def _pixels(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Row [H, 1] and column [W] of every pixel, int32."""
    height, width = picture.shape[1:3]
    rows = torch.arange(height, dtype=torch.int32, device=picture.device)
    return rows[:, None], torch.arange(width, dtype=torch.int32, device=picture.device)


# -- patches ----------------------------------------------------------------------------------------------------------


class _Patches:
    """All patches of a picture int32 [1, H, W]: tensors [1, rows, columns, 8, 8], and sums [1, rows, columns]."""

    def __init__(self, source: Tensor) -> None:
        height, width = source.shape[1:]
        rows, columns = (torch.arange(size, device=source.device) for size in grid(height, width))
        inner = torch.arange(PATCH_PX, device=source.device)
        y = ((rows - 1)[:, None, None, None] * STRIDE_PX + inner[:, None]).int()
        x = ((columns - 1)[:, None, None] * STRIDE_PX + inner).int()
        self.inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width))[None].int()
        self.y, self.x = torch.broadcast_tensors(y[None], x[None])
        at = y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()
        self.level = (source * 16)[:, *at]
        self.gx = (_shifted(source, 0, 1) - _shifted(source, 0, -1))[:, *at] * self.inside
        self.gy = (_shifted(source, 1, 0) - _shifted(source, -1, 0))[:, *at] * self.inside
        self.pixels = self.inside.sum((3, 4))
        self.sum_x, self.sum_y = self.gx.sum((3, 4)), self.gy.sum((3, 4))
        damping = (DAMPING * self.pixels * self.pixels).float()
        self.xx = (self.pixels * (self.gx * self.gx).sum((3, 4)) - self.sum_x * self.sum_x).float() + damping
        self.yy = (self.pixels * (self.gy * self.gy).sum((3, 4)) - self.sum_y * self.sum_y).float() + damping
        self.xy = (self.pixels * (self.gx * self.gy).sum((3, 4)) - self.sum_x * self.sum_y).float()
        self.determinant = self.xx * self.yy - self.xy * self.xy

    def compare(self, target: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squares that a motion leaves of each patch, less those of its mean, and the right sides of its equations."""
        left = (_sample(target, self.y, self.x, motion[:, :, :, None, None]) - self.level) * self.inside
        total = left.sum((3, 4))
        cost = self.pixels * (left * left).sum((3, 4)) - total * total
        x = self.pixels * (left * self.gx).sum((3, 4)) - total * self.sum_x
        y = self.pixels * (left * self.gy).sum((3, 4)) - total * self.sum_y
        return cost, x, y

    def stepped(self, motion: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The motion after a Gauss-Newton step."""
        x, y = x.float(), y.float()
        step = torch.stack([self.yy * x - self.xy * y, self.xx * y - self.xy * x], 3)
        return motion - step / self.determinant[..., None] * 0.125


def _search(source: Tensor, target: Tensor, before: Tensor) -> Tensor:
    """Each patch takes the best of its own and its neighbours' motions, and goes on from there."""
    patches = _Patches(source)
    start, lowest = before, patches.compare(target, before)[0]
    for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        other = _shifted(before, down, right)
        cost = patches.compare(target, other)[0]
        better = cost < lowest
        start, lowest = torch.where(better[..., None], other, start), torch.where(better, cost, lowest)
    motion = best = start
    going, lowest = torch.ones_like(lowest, dtype=torch.bool), torch.full_like(lowest, _NEVER)
    for _ in range(STEPS + 1):
        cost, x, y = patches.compare(target, motion)
        going = going & (cost < lowest) & ((motion - start).abs() <= PATCH_PX).all(3)
        best, lowest = torch.where(going[..., None], motion, best), torch.where(going, cost, lowest)
        motion = torch.where(going[..., None], patches.stepped(motion, x, y), motion)
    return best


# -- pixels -----------------------------------------------------------------------------------------------------------


def _blend(source: Tensor, target: Tensor, patches: Tensor) -> Tensor:
    y, x = _pixels(source)
    flow = torch.zeros(*source.shape, 2, device=source.device)
    total = torch.zeros(source.shape, device=source.device)
    for row in (0, 1):
        for column in (0, 1):
            motion = patches[:, (y // STRIDE_PX + row).long(), (x // STRIDE_PX + column).long()]
            off = _sample(target, y[None], x[None], motion) - source * 16
            weight = 16 / off.abs().clamp(min=16).float()
            flow, total = flow + weight[..., None] * motion, total + weight
    return flow / total[..., None]


def _smooth(source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """Gradients should not change along the flow, nor the flow from pixel to pixel: solved roughly."""
    y, x = _pixels(source)
    warped = _sample(target, y[None], x[None], flow)
    across = (_shifted(flow, 0, 1) - _shifted(flow, 0, -1)) * 0.5
    along = (_shifted(flow, 1, 0) - _shifted(flow, -1, 0)) * 0.5
    squares = [part[..., k] * part[..., k] for part in (across, along) for k in (0, 1)]
    stiff = 2 / _root(squares[0] + squares[1] + squares[2] + squares[3] + 1e-6)
    height, width = source.shape[1:]
    weights = []
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        there = (x + right >= 0) & (x + right < width) & (y + down >= 0) & (y + down < height)
        weights.append((down, right, (stiff + _shifted(stiff, down, right)) * 0.5 * there))
    total = weights[0][2] + weights[1][2] + weights[2][2] + weights[3][2]
    a11, a12, a22, b1, b2 = _equations(source * 16, warped, flow)
    a11, a22 = a11 + total, a22 + total
    determinant = (a11 * a22 - a12 * a12)[..., None]
    ours = torch.stack([b1, b2], 3)
    for half in range(2 * SWEEPS):
        drawn = torch.zeros_like(flow)
        for down, right, weight in weights:
            drawn = drawn + weight[..., None] * _shifted(flow, down, right)
        b1, b2 = (ours + drawn).unbind(3)
        solved = torch.stack([a22 * b1 - a12 * b2, a11 * b2 - a12 * b1], 3) / determinant
        turn = ((y + x + half) & 1 == 0)[None, ..., None]
        flow = torch.where(turn, flow + (solved - flow) * 1.75, flow)
    return flow


def _equations(source: Tensor, warped: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
    """a11, a12, a22, b1, b2 of each pixel, [1, H, W] float32; pictures in 1/16 level."""

    def over_x(picture: Tensor) -> Tensor:
        return _shifted(picture, 0, 1) - _shifted(picture, 0, -1)

    def over_y(picture: Tensor) -> Tensor:
        return _shifted(picture, 1, 0) - _shifted(picture, -1, 0)

    mean, change = source + warped, warped - source
    slope = over_x(mean)
    xx, xy, yy = (part.float() * (1 / 128) for part in (over_x(slope), over_y(slope), over_y(over_y(mean))))
    xt, yt = (part.float() * (1 / 32) for part in (over_x(change), over_y(change)))
    nx, ny = xx * xx + xy * xy + 0.1, xy * xy + yy * yy + 0.1
    size = _root(xt * xt / nx + yt * yt / ny + 1e-6)
    wx, wy = 1 / (size * nx), 1 / (size * ny)
    a11 = wx * xx * xx + wy * xy * xy + 1e-3
    a22 = wx * xy * xy + wy * yy * yy + 1e-3
    a12 = wx * xx * xy + wy * xy * yy
    u, v = flow.unbind(3)
    b1 = a11 * u + a12 * v - (wx * xx * xt + wy * xy * yt)
    b2 = a12 * u + a22 * v - (wx * xy * xt + wy * yy * yt)
    return a11, a12, a22, b1, b2


def _root(squares: Tensor) -> Tensor:
    """The square root, rounded correctly: torch's own is on other devices, but on a CPU MKL's errs by a last place."""
    if squares.device.type == "cpu":
        return torch.from_numpy(np.sqrt(squares.numpy()))
    return squares.sqrt()


def occlusion_ref(forward: Tensor, backward: Tensor, share: float, slack_px2: float) -> Tensor:
    """occlusion of flows float32 [N, H, W, 2]."""
    count, height, width = forward.shape[:3]
    y, x = _pixels(forward)
    to_x, to_y = forward[..., 0] + x, forward[..., 1] + y
    left, above = to_x.floor(), to_y.floor()
    along, down = (to_x - left)[..., None], (to_y - above)[..., None]
    rows = [(above.clamp(-1, height) + step).clamp(0, height - 1).long() for step in (0, 1)]
    columns = [(left.clamp(-1, width) + step).clamp(0, width - 1).long() for step in (0, 1)]
    frames = torch.arange(count, device=forward.device)[:, None, None]
    (a, b), (c, d) = ([backward[frames, row, column] for column in columns] for row in rows)
    up, low = a + (b - a) * along, c + (d - c) * along
    home = up + (low - up) * down
    back, there = home * home, forward * forward
    off = (forward + home).square()
    lengths = there[..., 0] + there[..., 1] + (back[..., 0] + back[..., 1])
    apart = off[..., 0] + off[..., 1] > lengths * share + slack_px2
    stays = (to_x >= -0.5) & (to_y >= -0.5) & (to_x <= width - 0.5) & (to_y <= height - 0.5)
    return apart | ~stays
