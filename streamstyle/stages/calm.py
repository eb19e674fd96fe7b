"""Blending of a painted frame with what was shown before, along the motion of the source: what flickers is held still.

::

    anchor ──────── one cubic reading, where the motions since then, joined, lead ──┐
    last picture ── the same by this frame's motion, where the anchor has nothing ──┴─► carried ──┐
    painted now ──────────────────────────────────────────────────────────────────────────────────┴─ trust ──► shown

A picture that is warped once a frame is soon blurred (bilinear: a fifth of the Laplacian's energy is left). So motions
are joined, not pictures: an anchor, some picture that was shown, is read once wherever it is needed, for ANCHOR_FRAMES.

Trust is 0, and the new painting shown, where the source looks different from what the motion says, where the motion
leaves the picture, where it was another object, and where motion stretched the strokes too far: less is enough near a
border between looks, and that must lie where it was (``stages.calm_border``). Trust fades as the light leaves what the
strokes were painted in.

Source: Chen et al. 2017, "Coherent Online Video Style Transfer" (blending along flow); Lai et al. 2018, "Learning Blind
Video Temporal Consistency" (the measure). Differs: joined motions, trust from source and looks, reuse to the bit.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.stages.calm_cpu import (
    COLOR_HELD,
    COLOR_NEW,
    LIGHT_HELD,
    LIGHT_NEW,
    LOOKS_ALIKE,
    LOOKS_OTHER,
    MOST_STRETCH,
    NEAR_ALIKE,
    NEAR_OTHER,
    NEAR_STRETCH,
    REACH_PX,
    Maps,
    Workspace,
    bend_cpu,
    calm_cpu,
    color_held_cpu,
    holds,
    inner_cpu,
    places_of,
    read_cpu,
    trust_cpu,
    unbent_cpu,
)

ANCHOR_FRAMES = 12
REFRESH = 0.05
"""Share of the new painting where the old one is trusted whole."""


def trust(
    flow: Tensor,
    luma: Tensor,
    previous: Tensor,
    painted_in: Tensor,
    looks: Tensor | None = None,
    previous_looks: Tensor | None = None,
    *,
    near_border: Tensor | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """How far what was shown may be carried along the motion.

    Args:
        flow: [h, w, 2] float32 px: where in the previous frame each pixel was.
        luma, previous: [h, w] uint8.
        painted_in: [h, w] float32: luma of the source when what is carried was painted, of the previous frame's pixels.
        looks, previous_looks: [h, w] int32, whose each pixel is, or None where all are one's.
        near_border: [h, w] bool, where a border between them is near, or None.
        impl: "auto" (OpenCV on a CPU, else torch) or "ref" (torch).

    Returns:
        share, [h, w] float32: of the carried picture, 0..1; and painted_in of the new frame's pixels.

    Raises:
        ShapeError: what is given is not of one size.

    Cost: no synchronisation; on a CPU 1 ms at 640x360.
    """
    size = luma.shape
    _check("flow", flow, torch.float32, (*size, 2), 3)
    _check("previous luma", previous, torch.uint8, size, 2)
    _check("painted_in", painted_in, torch.float32, size, 2)
    if (looks is None) != (previous_looks is None):
        raise ShapeError("looks and previous_looks must both be given, or neither")
    for worn in (looks, previous_looks):
        if worn is not None:
            _check("looks", worn, torch.int32, size, 2)
    if impl == "auto" and luma.device.type == "cpu":
        return trust_cpu(flow, luma, previous, painted_in, looks, previous_looks, near_border)
    return _trust_ref(flow, luma, previous, painted_in, looks, previous_looks, near_border)


def color_held(flow: Tensor, chroma: Tensor, painted_in: Tensor, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """How far the source has kept the colour in which what is carried was painted.

    Args:
        flow: [h, w, 2] float32 px.
        chroma: [2, h, w] uint8.
        painted_in: [2, h, w] float32: as for :func:`trust`, of the chroma.
        impl: as for :func:`trust`.

    Returns:
        share, [h, w] float32: of the carried picture, 0..1; and painted_in of the new frame's pixels.
    """
    if impl == "auto" and flow.device.type == "cpu":
        return color_held_cpu(flow, chroma, painted_in)
    there = _read(painted_in, flow, flow.shape[:2], "bilinear")
    change = chroma.float() - there
    u, v = (mean(one, 5, impl="ref") for one in change)
    return _ramp(torch.maximum(u.abs(), v.abs()), COLOR_HELD, COLOR_NEW), there


def mean(values: Tensor, side: int, *, impl: str = "auto") -> Tensor:
    """Means of the squares of a side around each pixel, [h, w] float32."""
    if impl == "auto" and values.device.type == "cpu":
        return torch.from_numpy(cv2.blur(values.numpy(), (side, side)))
    reach = side // 2
    padded = F.pad(values[None, None], (reach,) * 4, mode="reflect")
    return F.avg_pool2d(padded, side, 1)[0, 0]


def near(changed: Tensor, reach_px: int, *, impl: str = "auto") -> Tensor:
    """What is within reach of some pixels, in a square, [h, w] bool; impl: as for :func:`trust`."""
    if impl == "auto" and changed.device.type == "cpu":
        square = np.ones((2 * reach_px + 1,) * 2, np.uint8)
        return torch.from_numpy(cv2.dilate(changed.numpy().view(np.uint8), square) > 0)
    return _largest(changed.float(), reach_px) > 0


def inner(looks: Tensor, reach_px: int, *, impl: str = "auto") -> Tensor:
    """Where all within reach wear the same, [h, w] bool; looks: [h, w] int32; impl: as for :func:`trust`."""
    if impl == "auto" and looks.device.type == "cpu":
        return torch.from_numpy(inner_cpu(looks.numpy().astype(np.int16), reach_px))
    return _inner(looks, reach_px)


def carried_along(values: Tensor, flow: Tensor, *, impl: str = "auto") -> Tensor:
    """Values of a small picture, each read where the flow leads, between pixels linear.

    Args:
        values: [h, w] or [h, w, C] float32; what lies outside is the border's.
        flow: [h, w, 2] float32 px.
        impl: as for :func:`trust`.
    """
    _check("flow", flow, torch.float32, (*values.shape[:2], 2), 3)
    if impl == "auto" and values.device.type == "cpu":
        return torch.from_numpy(read_cpu(values.numpy(), places_of(flow.numpy(), flow.shape[:2]), cv2.INTER_LINEAR))
    planes = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    read = _read(planes, flow, values.shape[:2], "bilinear")
    return read[0] if values.ndim == 2 else read.permute(1, 2, 0)


def bend(bent: Tensor, flow: Tensor, near_border: Tensor | None = None, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """How the strokes of each pixel were bent by all motions since they were painted, and where that is too much.

    Behind what moves the flow stretches what is left over what appears, and no luma need show it; a swirl is slow. So
    the Jacobians of the motions are multiplied as they go: turned as a whole strokes stay, but stretched by more than
    MOST_STRETCH they go, near a border between looks by more than NEAR_STRETCH.

    Args:
        bent: [h, w, 4] float32, row by row: the derivative of where a pixel's strokes were painted, as of the previous
            frame; the unit where they are new.
        flow: [h, w, 2] float32 px.
        near_border: as for :func:`trust`.
        impl: as for :func:`trust`.

    Returns:
        bent of the new frame's pixels, and where the strokes hold, [h, w] bool.
    """
    _check("flow", flow, torch.float32, (*bent.shape[:2], 2), 3)
    _check("bent", bent, torch.float32, (*flow.shape[:2], 4), 3)
    return (bend_cpu if impl == "auto" and flow.device.type == "cpu" else _bend_ref)(bent, flow, near_border)


def unit(size: tuple[int, ...], device: torch.device) -> Tensor:
    """No bend, [h, w, 4] float32."""
    unit = torch.zeros(*size, 4, device=device)
    unit[..., ::3] = 1
    return unit


def unbent(bent: Tensor, carried: Tensor) -> Tensor:
    """bent where the strokes are carried ([h, w] bool), elsewhere the unit: they are new."""
    if bent.device.type == "cpu":  # torch.where takes ten times as long of a mask that is spread over planes
        return unbent_cpu(bent, carried)
    return torch.where(carried[..., None], bent, unit(carried.shape, bent.device))


def calm(
    painted: Tensor,
    previous: Tensor,
    anchor: Tensor,
    flow: Tensor,
    to_anchor: Tensor,
    anchored: Tensor,
    share: Tensor,
    still: Tensor,
    sharpen: Tensor,
    *,
    refresh: float = REFRESH,
    strength: float = 1.0,
    impl: str = "auto",
    workspace: Workspace | None = None,
) -> Tensor:
    """Blend a painted frame with what was shown before.

    Args:
        painted: [3, H, W] float32, 0..1.
        previous, anchor: [3, H, W] float32: the picture shown last, and one shown some frames ago.
        flow, to_anchor: [h, w, 2] float32 px of the small picture: where each pixel was in either.
        anchored: [h, w] bool: the anchor shows it.
        share: [h, w] float32, 0..1: see :func:`trust`.
        still: [h, w] bool: the last picture is kept, bit for bit.
        sharpen: 0-d float32: how much of what a 3 x 3 blur takes away is added to what is carried.
        refresh: share of the new painting where trust is whole.
        strength: 0 (as painted) .. 1.
        impl: "auto" (OpenCV on a CPU, else torch) or "ref" (torch; cubic readings differ from OpenCV's, which are at
            1/32 px).
        workspace: memory kept from frame to frame, for a CPU.

    Returns:
        [3, H, W] float32; by torch channels-last.

    Raises:
        ShapeError: the pictures are not float32 [3, H, W] of one shape, or the maps not of one.

    Cost: no synchronisation; on a CPU 5 to 9 ms at 640x360.
    """
    _check("painted", painted, torch.float32, (3, *painted.shape[1:]), 3)
    for picture in (previous, anchor):
        _check("previous and anchor", picture, torch.float32, painted.shape, 3)
    size = share.shape
    for motion in (flow, to_anchor):
        _check("flow and to_anchor", motion, torch.float32, (*size, 2), 3)
    for mask in (anchored, still):
        _check("anchored and still", mask, torch.bool, size, 2)
    pictures, maps = (painted, previous, anchor), Maps(flow, to_anchor, anchored, share, still)
    if impl == "auto" and painted.device.type == "cpu":
        return calm_cpu(pictures, maps, sharpen, refresh, strength, workspace)
    return _calm_ref(pictures, maps, sharpen, refresh, strength)


def sharpness(picture: Tensor) -> Tensor:
    """Mean square of the Laplacian of the green plane, 0-d float32: how sharp a picture [3, H, W] is."""
    green = picture[1]
    if picture.device.type == "cpu":
        lines = cv2.Laplacian(np.ascontiguousarray(green.numpy()), cv2.CV_32F).ravel()
        return torch.tensor(np.float32(np.dot(lines, lines) / lines.size))
    inside = green[1:-1, 1:-1]
    return (green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:] - 4 * inside).square().mean()


def differences(picture: Tensor, other: Tensor, rows: Tensor, columns: Tensor, motion: Tensor) -> Tensor:
    """Squared differences, mean of the colours, of some pixels from where they are in another picture (bilinear).

    Args:
        picture, other: [3, H, W] float32.
        rows [h], columns [w]: int64, the pixels of picture.
        motion: [h, w, 2] float32 px of it, to the other.

    Returns:
        [h, w] float32.
    """
    x, y = columns + motion[..., 0], rows[:, None] + motion[..., 1]
    if picture.device.type == "cpu":
        places = torch.stack([x, y]).numpy()
        total = np.zeros(places.shape[1:], np.float32)
        for now, before in zip(picture.numpy(), other.numpy(), strict=True):
            change = now[rows.numpy()[:, None], columns.numpy()] - read_cpu(before, places, cv2.INTER_LINEAR)
            total += change * change
        return torch.from_numpy(total / 3)
    height, width = picture.shape[1:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)[None]
    was = F.grid_sample(other[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return (picture[:, rows][:, :, columns] - was).square().mean(0)


def _check(what: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], axes: int) -> None:
    if tensor.dtype != dtype or tensor.ndim != axes or tuple(tensor.shape) != tuple(shape):
        raise ShapeError(f"{what} must be {dtype} {[*shape]}, got {tensor.dtype} {[*tensor.shape]}")


# -- torch ------------------------------------------------------------------------------------------------------------


def _trust_ref(
    flow: Tensor,
    luma: Tensor,
    previous: Tensor,
    painted_in: Tensor,
    looks: Tensor | None,
    previous_looks: Tensor | None,
    near_border: Tensor | None,
) -> tuple[Tensor, Tensor]:
    height, width = luma.shape
    now = luma.float()
    there = _read(torch.stack([previous.float(), painted_in]), flow, luma.shape, "bilinear")
    other = mean((now - there[0]).abs(), 3, impl="ref")
    light = mean(now - there[1], 5, impl="ref").abs()
    share = _ramp(other, LOOKS_ALIKE, LOOKS_OTHER)
    if near_border is not None:
        share = torch.where(near_border, _ramp(other, NEAR_ALIKE, NEAR_OTHER), share)
    share = share * _ramp(light, LIGHT_HELD, LIGHT_NEW)
    x, y = (place.reshape(height, width) for place in _where(flow, luma.shape))
    share *= (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    if looks is None or previous_looks is None:
        return share, there[1]
    column = x.round().clamp_(0, width - 1).long()
    row = y.round().clamp_(0, height - 1).long()
    was = torch.where(_inner(previous_looks, REACH_PX), previous_looks, -1)[row, column]
    same = (was == looks) | (was < 0) | ~_inner(looks, REACH_PX)
    kept = -F.max_pool2d(-F.pad(same.float()[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)
    return share * kept[0, 0], there[1]


def _bend_ref(bent: Tensor, flow: Tensor, near_border: Tensor | None) -> tuple[Tensor, Tensor]:
    before = carried_along(bent, flow, impl="ref")
    soft = F.avg_pool2d(F.pad(flow.permute(2, 0, 1)[None], (2,) * 4, mode="replicate"), 5, 1)
    wide = F.pad(soft, (1,) * 4, mode="replicate")[0]
    across = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
    down = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
    ours = (1 + across[0], down[0], across[1], 1 + down[1])
    a, b, c, d = before.unbind(2)
    one = (a * ours[0] + b * ours[2], a * ours[1] + b * ours[3], c * ours[0] + d * ours[2], c * ours[1] + d * ours[3])
    most: float | Tensor = MOST_STRETCH
    if near_border is not None:
        most = torch.where(near_border, NEAR_STRETCH, MOST_STRETCH)
    return torch.stack(one, 2), holds(*one, most)


def _calm_ref(
    pictures: tuple[Tensor, Tensor, Tensor], maps: Maps, sharpen: Tensor, refresh: float, strength: float
) -> Tensor:
    painted, previous, anchor = pictures
    flow, to_anchor, anchored, share, still = maps
    size = painted.shape[1:]
    masks = F.interpolate(torch.stack([anchored, still])[None].float(), size=size, mode="nearest-exact")[0] > 0
    part = F.interpolate((share * strength)[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    last = _read(previous, flow, size, "bicubic")
    carried = torch.where(masks[0], _read(anchor, to_anchor, size, "bicubic"), last)
    mixed = carried + refresh * (painted - carried)
    mixed = mixed + sharpen * (mixed - _soft(mixed))
    shown = (painted + part * (mixed - painted)).clamp_(0, 1)
    return torch.where(masks[1], previous, shown).permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _soft(picture: Tensor) -> Tensor:
    padded = F.pad(picture[None], (1, 1, 1, 1), mode="reflect")[0]
    rows = (padded[:, :-2] + padded[:, 2:]) * 0.25 + padded[:, 1:-1] * 0.5
    return (rows[..., :-2] + rows[..., 2:]) * 0.25 + rows[..., 1:-1] * 0.5


def _where(flow: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Column and row of a picture of a size to which a small flow leads from each of its pixels."""
    height, width = size
    full = flow.permute(2, 0, 1)[None]
    if flow.shape[:2] != size:
        full = F.interpolate(full, size=(height, width), mode="bilinear", align_corners=False)
    columns = torch.arange(width, device=flow.device, dtype=torch.float32)[None]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    return columns + full[0, 0] * (width / flow.shape[1]), rows + full[0, 1] * (height / flow.shape[0])


def _read(planes: Tensor, flow: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    """Planes [C, H, W] read where a small flow leads."""
    height, width = size
    x, y = _where(flow, size)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(planes[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]


def _ramp(values: Tensor, whole: float, none: float) -> Tensor:
    return ((none - values) / (none - whole)).clamp_(0, 1)


def _inner(looks: Tensor, reach_px: int) -> Tensor:
    """Whether all within reach wear the same."""
    worn = looks.float()
    return _largest(worn, reach_px) == -_largest(-worn, reach_px)


def _largest(values: Tensor, reach_px: int) -> Tensor:
    """The largest of the square around each pixel [h, w]; by lines and by columns, for the square may be wide."""
    side = 2 * reach_px + 1
    lines = F.max_pool2d(values[None, None], (1, side), 1, (0, reach_px))
    return F.max_pool2d(lines, (side, 1), 1, (reach_px, 0))[0, 0]
