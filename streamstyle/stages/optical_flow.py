"""Dense optical flow: where each pixel of a picture is in another; label maps carried by it; what it cannot follow.

::

    both pictures, halved      patches of 8 px, each 4 px      blended to pixels      smoothed where gradients
    until they are small       ask their neighbours, then      by how well they       say little
    ┌──┐                       step downhill, 4 rounds         fit
    │  │ → ┌┐  coarse to fine  ┌─┬─┐                           ↗ ↗ → →                ↗ ↗ → →
    └──┘   └┘      ←           ├─┼─┤   →                       ↗ → → →       →        ↗ ↗ → →
                               └─┴─┘

The finest level is half the picture's size: on two rendered pairs with true flow the mean error is 2.36 and 0.64 px,
and 2.08 and 0.62 from full size, at four times the cost. A CPU takes OpenCV's search instead (3.25 and 0.74 px): these
passes would take 20 times as long there.

Source: Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search"; Barnes et al. 2009, "PatchMatch", for the
neighbours; Brox et al. 2004 and Zimmer et al. 2011 for the smoothing; Sundaram et al. 2010 for occlusion. Differs: see
kernels/optical_flow.cu. The reference is optical_flow_ref.py.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch
from streamstyle.gpu.transfer import to_device
from streamstyle.stages.optical_flow_ref import PASSES, ROUNDS, first_motions, flow_ref, halvings, occlusion_ref

STEM = "optical_flow"
TILE_PX, WARP = 32, 32
"""Side of the square that a block of the smoothing does, and lanes of the warp that does a patch; as in the kernels."""
SMALLEST_PX = 32
"""Short side below which OpenCV's search reads outside its pyramid: 31x96 kills the process (OpenCV 5.0)."""
CAREFUL_STEPS, CAREFUL_ROUNDS = 16, 3
"""Steps downhill of a patch at most, and rounds of smoothing. OpenCV's medium preset has 25 and 5, takes a sixth more
time, and tells what moves as well: 9.1 and 0.26 px for OpticalFlow's 9.1 and 0.27, J within .002 on eight sequences."""
DENSE_PX, SPARSE_PX = 3, 4
"""Between patches of 8 px each way. OpenCV's medium preset has 3; 4 takes a quarter less time. On eight DAVIS sequences
J is the same where every 4th frame is looked at; where every one is, it is .0015 lower, and .011 without clicks."""
CARRYING_PX, CARRYING_STEPS, CARRYING_ROUNDS = 5, 12, 1
"""As those, in frames that are not looked at, in which motion only carries: three fifths of the time. On eight DAVIS
sequences, every 4th frame looked at, J is .779 with SPARSE_PX there, .780 so; .771 at 6 px, .758 by OpenCV's fast
search; .792 and .793 where looks go by doubt. A frame that is looked at and repeats one that was not takes what moves
from that one's: against the true objects it tells as much (overlap .42; .38 by the fast search)."""
MOST_PX = 1 << 20
"""Of a side: positions are counted in 1/256 px, in 32 bits."""


def optical_flow(source: Tensor, target: Tensor, *, impl: str = "auto") -> Tensor:
    """Find where each pixel of one picture is in another.

    Args:
        source, target: [N, H, W] uint8 luma, contiguous for the kernels.
        impl: "auto" (OpenCV on a CPU, the kernels on CUDA), "ref" (torch on any device) or "cuda".

    Returns:
        [N, H, W, 2] float32 (dx, dy) px on source's device: the pixel at (x, y) of source is at (x + dx, y + dy) of
        target. Equal pictures have none. The kernels and "ref" agree to the last bit; OpenCV finds another flow, and
        pictures with a side under SMALLEST_PX go to "ref" on a CPU too.

    Raises:
        ShapeError: the pictures are not uint8 [N, H, W] of one shape on one device, or a side is over MOST_PX.

    Cost: 18 launches a level and 2 a halving, no synchronisation; some 130 bytes a pixel, all levels together. On a CPU
    2 to 5 ms a frame at 427x240 on one core; "ref" about 1 s.
    """
    _check("pictures", source, target, 3, torch.uint8, "uint8 [N, H, W]")
    if max(source.shape[1:]) > MOST_PX:
        raise ShapeError(f"a side may have {MOST_PX} pixels, got pictures of {[*source.shape[1:]]}")
    if source.numel() == 0:
        return torch.zeros(*source.shape, 2, device=source.device)
    if chosen(impl, source):
        return _optical_flow_cuda(source.contiguous(), target.contiguous())
    if impl == "auto" and source.device.type == "cpu" and min(source.shape[1:]) >= SMALLEST_PX:
        search = _opencv_search()
        pairs = zip(source.contiguous().numpy(), target.contiguous().numpy(), strict=True)
        return torch.from_numpy(np.stack([search.calc(*pair, None) for pair in pairs]))  # type: ignore[call-overload]
    return flow_ref(source, target)


def occlusion(
    forward: Tensor, backward: Tensor, *, share: float = 0.01, slack_px2: float = 0.5, impl: str = "auto"
) -> Tensor:
    """Find the pixels that the other picture does not show: there and back is not where they started.

    With w the flow of a pixel and v the backward flow where it leads (bilinear), a pixel is occluded where
    |w + v|^2 > share (|w|^2 + |v|^2) + slack_px2, or where w leads out of the picture.

    Args:
        forward: [N, H, W, 2] float32 px, finite: from this picture to the other.
        backward: [N, H, W, 2] float32 px: from the other to this one.
        share, slack_px2: of the threshold, as published: 0.01 and 0.5.
        impl: as for :func:`optical_flow`; on a CPU OpenCV reads v at 1/32 px.

    Returns:
        [N, H, W] bool on forward's device, of the picture that forward starts from. The kernel and "ref" are equal;
        OpenCV's answer differs only where both sides of the threshold are equal to some hundredths.

    Raises:
        ShapeError: the flows are not float32 [N, H, W, 2] of one shape on one device.

    Cost: 1 launch, 17 bytes a pixel. On a CPU 1 to 2 ms a frame at 427x240.
    Source: Sundaram, Brox and Keutzer 2010, "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical
    Flow", equation 5. Differs: leaving the picture counts as occluded.
    """
    _check("flows", forward, backward, 4, torch.float32, "float32 [N, H, W, 2]")
    if forward.shape[3] != 2:
        raise ShapeError(f"flows must be float32 [N, H, W, 2], got {[*forward.shape]}")
    if forward.numel() == 0:
        return torch.zeros(forward.shape[:3], dtype=torch.bool, device=forward.device)
    if chosen(impl, forward):
        hidden = torch.empty(forward.shape[:3], dtype=torch.bool, device=forward.device)
        flows = _in_pairs(forward), _in_pairs(backward)
        launch(STEM, "optical_flow_occlude", hidden.numel(), *flows, hidden, *hidden.shape, share, slack_px2)
        return hidden
    if impl == "auto" and forward.device.type == "cpu" and max(forward.shape[1:3]) < 1 << 15:
        pairs = zip(forward.contiguous().numpy(), backward.contiguous().numpy(), strict=True)
        return torch.from_numpy(np.stack([_occlusion_cpu(*pair, share, slack_px2) for pair in pairs]))
    return occlusion_ref(forward, backward, share, slack_px2)


class OpticalFlow:
    """Flow from each new frame back to the one before it (DIS, coarse to fine).

    Source: Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search"; OpenCV's implementation.
    Args:
        careful_px: between patches of a careful search, for telling what moves, and not only for carrying: DENSE_PX
            or SPARSE_PX; None for a quick one. On eight DAVIS sequences the median motion of the object beside the
            camera's is 9.1 px where it is dense and 7.9 where it is quick, that of the rest 0.27 and 0.58.

    Cost: at 427x240 on one core 2 to 5 ms a frame; careful 9 ms where it is dense, 7 where sparse, 4 only to carry.
    """

    def __init__(self, *, careful_px: int | None = None) -> None:
        self._dis = _opencv_search() if careful_px is None else _search(careful_px, CAREFUL_STEPS, CAREFUL_ROUNDS)
        self._carrying = self._dis
        if careful_px is not None:
            self._carrying = _search(CARRYING_PX, CARRYING_STEPS, CARRYING_ROUNDS)
        self.previous: np.ndarray | None = None
        """The last luma seen: all that is carried from frame to frame."""

    def step(self, luma: np.ndarray, *, to_carry: bool = False) -> np.ndarray | None:
        """Flow to the previous luma.

        Args:
            luma: [H, W] uint8.
            to_carry: whether it is of a frame that is not looked at: a careful search is less so.

        Returns:
            [H, W, 2] float32 (dx, dy) px: where in the previous frame each pixel was; None for the first frame,
            after a change of size, and for pictures under SMALLEST_PX.
        """
        if luma.ndim != 2 or luma.dtype != np.uint8:
            raise ShapeError(f"luma must be uint8 [H, W], got {luma.dtype} {[*luma.shape]}")
        previous, self.previous = self.previous, luma
        if previous is None or previous.shape != luma.shape or min(luma.shape) < SMALLEST_PX:
            return None
        search = self._carrying if to_carry else self._dis
        return search.calc(luma, previous, None)  # type: ignore[call-overload]  # None is allowed

    def together(self, lumas: Tensor, part: slice = slice(None)) -> Tensor:
        """The flows of frames to those before them, all at once, by :func:`optical_flow`.

        Args:
            lumas: [N, H, W] uint8, those that come next, on any device.
            part: consecutive ones whose flow is wanted.

        Returns:
            [M, H, W, 2] float32 (dx, dy) px on it, of the part's frames; the first of all is without motion where no
            previous luma is known, and those after a cut are meaningless. previous stays as it is.

        Cost: as :func:`optical_flow`.
        """
        return optical_flow(lumas[part], self.before(lumas, part))

    def before(self, lumas: Tensor, part: slice = slice(None)) -> Tensor:
        """The frames before those of a part, as together takes them, [M, H, W] uint8."""
        first = part.start or 0
        if first > 0:
            before = lumas[first - 1 : first]
        elif self.previous is not None and self.previous.shape == lumas.shape[1:]:
            before = to_device(torch.from_numpy(self.previous), lumas.device)[None]
        else:
            before = lumas[:1]
        return torch.cat([before, lumas[part][:-1]])

    def reset(self) -> None:
        """Forget the previous frame (at a cut)."""
        self.previous = None


def careful_px(every: int) -> int:
    """Between patches of a careful search, where every Nth frame is looked at."""
    return DENSE_PX if every == 1 else SPARSE_PX


def carry_labels(labels: np.ndarray, flow: np.ndarray | None) -> np.ndarray:
    """Each pixel takes the label of where it was.

    Args:
        labels: [H, W] int32, values below 32768.
        flow: [H, W, 2] float32 from :meth:`OpticalFlow.step`, or None for no motion.

    Returns:
        [H, W] int32; what came in over the border takes the label at the border.
    """
    if flow is None:
        return labels
    # Not by WARP_RELATIVE_MAP: of halves that takes another neighbour than the kernels do.
    moved = cv2.remap(labels.astype(np.int16), leads_to(flow), None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]  # None is allowed
    return moved.astype(np.int32)


def carry(values: np.ndarray, flow: np.ndarray | None) -> np.ndarray:
    """Each pixel takes the value of where it was, between pixels a mean of four.

    Args:
        values: [H, W] or [H, W, C] float32 or uint8, C of 4 at most.
        flow: [H, W, 2] float32 from :meth:`OpticalFlow.step`, or None for no motion.

    Returns:
        Likewise; what came in over the border takes the value at the border.
    """
    if flow is None:
        return values
    how = cv2.INTER_LINEAR | cv2.WARP_RELATIVE_MAP
    return cv2.remap(values, flow, None, how, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]  # None is allowed


def lengths(flow: np.ndarray) -> np.ndarray:
    """Lengths [H, W] of a flow [H, W, 2] float32; as complex numbers, in a fifth of cv2.magnitude's time."""
    found: np.ndarray = np.abs(np.ascontiguousarray(flow).view(np.complex64)[..., 0])
    return found


def leads_to(flow: np.ndarray) -> np.ndarray:
    """(Column, row) to which a flow [H, W, 2] float32 leads from each pixel, likewise."""
    height, width = flow.shape[:2]
    return flow + _coordinates(-(-height // 256) * 256, -(-width // 256) * 256)[:height, :width]


@functools.lru_cache(maxsize=4)
def _coordinates(height: int, width: int) -> np.ndarray:
    """Each pixel's (column, row), [H, W, 2] float32; the same array each time."""
    rows, columns = np.indices((height, width), np.float32)
    return np.stack([columns, rows], -1)


def _check(what: str, one: Tensor, other: Tensor, axes: int, dtype: torch.dtype, wanted: str) -> None:
    if one.ndim != axes or one.shape != other.shape or {one.dtype, other.dtype} != {dtype}:
        raise ShapeError(
            f"{what} must be {wanted} of one shape, got {one.dtype} {[*one.shape]} and {other.dtype} {[*other.shape]}"
        )
    if one.device != other.device:
        raise ShapeError(f"{what} must be on one device, got {one.device} and {other.device}")


def _opencv_search(preset: int = cv2.DISOPTICAL_FLOW_PRESET_FAST) -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(preset)


def _search(stride_px: int, steps: int, rounds: int) -> cv2.DISOpticalFlow:
    search = _opencv_search(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setPatchStride(stride_px)
    search.setGradientDescentIterations(steps)
    search.setVariationalRefinementIterations(rounds)
    return search


def _occlusion_cpu(forward: np.ndarray, backward: np.ndarray, share: float, slack_px2: float) -> np.ndarray:
    """occlusion of one frame."""
    height, width = forward.shape[:2]
    to = leads_to(forward)
    home = cv2.remap(backward, to, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]  # None is allowed
    x, y = to[..., 0], to[..., 1]

    def squares(flow: np.ndarray) -> np.ndarray:
        return flow[..., 0] ** 2 + flow[..., 1] ** 2

    apart = squares(forward + home) > share * (squares(forward) + squares(home)) + slack_px2
    return apart | (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)


def _in_pairs(flow: Tensor) -> Tensor:
    """The flow, contiguous, and where it can be read 8 bytes at a time: a view may begin at any number."""
    flow = flow.contiguous()
    return flow if flow.data_ptr() % 8 == 0 else flow.clone()


def _optical_flow_cuda(source: Tensor, target: Tensor) -> Tensor:
    levels = [(source, target)]
    for _ in range(halvings(*source.shape[1:])):
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    flow = torch.zeros(*levels[-1][0].shape, 2, device=source.device)
    for level in reversed(range(len(levels))):
        shape = levels[level][0].shape
        if flow.shape[:3] != shape:
            coarse, flow = flow, torch.empty(*shape, 2, device=source.device)
            launch(STEM, "optical_flow_enlarge", flow.numel() // 2, coarse, flow, *shape)
        if level > 0 or len(levels) == 1:
            flow = _level_cuda(*levels[level], flow)
    return flow


def _halved(picture: Tensor) -> Tensor:
    count, height, width = picture.shape
    half = picture.new_empty(count, -(-height // 2), -(-width // 2))
    launch(STEM, "optical_flow_halve", half.numel(), picture, half, *picture.shape)
    return half


def _level_cuda(source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """The flow of a level, from a first guess at it."""
    count, height, width = sizes = source.shape
    patches = first_motions(flow).contiguous()
    other, warps = torch.empty_like(patches), patches.numel() // 2
    for _ in range(ROUNDS):
        launch(STEM, "optical_flow_search", warps * WARP, source, target, patches, other, *sizes)
        patches, other = other, patches
    pixels = source.numel()
    launch(STEM, "optical_flow_blend", pixels, source, target, patches, flow, *sizes)
    warped = torch.empty(sizes, dtype=torch.int32, device=source.device)
    stiff, terms, smoothed = flow.new_empty(sizes), flow.new_empty(count, 5, height, width), torch.empty_like(flow)
    blocks = count * -(-height // TILE_PX) * -(-width // TILE_PX)
    for _ in range(PASSES):
        launch(STEM, "optical_flow_warp", pixels, target, flow, warped, stiff, *sizes)
        launch(STEM, "optical_flow_equations", pixels, source, warped, flow, terms, *sizes)
        launch(STEM, "optical_flow_relax", blocks, terms, stiff, flow, smoothed, *sizes, by_block=True)
        flow, smoothed = smoothed, flow
    return flow
