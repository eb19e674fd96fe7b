"""What objects look like: a linear model over a network's features, learned from the film itself as it goes.

::

    its LOOK_LAYERS ──────► unit length ─► projected ─────┐
    colour, its square, its neighbourhood's ──────────────┴─► x, [P, D], a description of each 4 x 4 block of pixels

    learn     per class (0 the background, 1 .. K objects) the mean of x and x x^T, weighed by how sure its pixels are
    score     z = x (sum of the classes' x x^T + ridge)^-1 (the classes' mean x)        [P, K + 1], about 1 where it is

A score is a sum over x, so the parts of it that layer 2_2 and colours give are asked finer, in score_map.
Each class counts the same however small it is, and ridge regression has a closed form, so one solve of a D x D system
serves all objects. ANCHOR of what a class remembers is the frame it was named in, which cannot drift; the rest forgets.
In that frame the background beside an object counts for more.

Source: Shawe-Taylor and Cristianini 2004 (ridge regression); Robinson et al. 2020 (a linear target model learned while
tracking). Differs: closed form, the edge network's features, moments kept a class at a time so that objects may come.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOOK_LAYERS = ((2, 2), (3, 2), (4, 3))
"""Layers of the network that edges are read from (``nets.hed``) whose features are looked at, by block and place in
it; of HED itself but those of blocks 1 to 3. 4_3 knows things, not edges: on eight DAVIS sequences J is .02 higher
where it is VGG-16's own or as the narrow network has learned it. It also sees what is around a thing: who left the
picture and comes back is followed less well from there on (benchmarks/eval_shots.py)."""
STRIDE = 4
"""Pixels of the small picture, each way, that share a description."""
DIMENSIONS = (32, 64, 32)
"""What is kept of each layer's channels: the first principal directions of the shot's first frame. On eight DAVIS
sequences, of HED's layers, twice as many gain nothing, half as many lose .03 of J; of 4_3 16, 32 and 48 are alike."""
RIDGE = 1e-4
"""For each class. On eight DAVIS sequences J is .801 at 1.5e-4, .804 at 1e-4, .805 at .6e-4; where every 4th frame is
looked at .776, .779 and .781, but of what is found unasked .676, .678 and .667."""
FORGET = 0.95
"""A frame's weight when the next has passed, be it learned or not. Counted in frames that are learned J is .009 lower
where every 4th is; at .9 a frame it is .004 lower where every one is."""
ANCHOR = 0.75
"""Share of the frame a class was named in, in what it remembers. Of .5, .7, .75, .8, .9 and 1 the middle ones follow
the sequences best; 1 cannot follow a car that turns, .5 takes in trees behind a horse."""
LOOSE_RATE = 0.03
"""Weight of a new frame in the mean of all, at least."""
NEAR_WEIGHT = 20.0
"""What a block of the background counts beside an object, over one far from all, in the frame it is first seen in:
there it must be told from the object, elsewhere it only may. On eight DAVIS sequences J is .696 at 0, .719 at 20, .708
at 100. In later frames it would make sure of every part of the object that was missed once."""
SHARPNESS = 6.0
"""Scores to probabilities: softmax(SHARPNESS z)."""


class AppearanceModel:
    """Classes and how they look; everything on one device, float32.

    Args:
        device: where features come from.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget all classes and the shot's principal directions."""
        self._bases: list[Tensor] = []
        self._anchor: list[Tensor | None] = [None]
        self._recent: list[Tensor | None] = [None]
        self._frames = [0]

    @property
    def classes(self) -> int:
        """How many there are, the background among them."""
        return len(self._anchor)

    @property
    def known(self) -> bool:
        """Whether there is a class beside the background that has learned something."""
        return self.knows(0) and any(self.knows(k) for k in range(1, self.classes))

    def knows(self, number: int) -> bool:
        """Whether a class has learned something."""
        return self._anchor[number] is not None

    def add(self) -> int:
        """A new class, that nothing is known of yet; its number."""
        self._anchor.append(None)
        self._recent.append(None)
        self._frames.append(0)
        return self.classes - 1

    def renew(self, number: int) -> None:
        """Have a class begin anew with the next frame, for what it learned so far was something else's."""
        self._anchor[number] = self._recent[number] = None
        self._frames[number] = 0

    def describe(self, features: Sequence[Tensor], rgb: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Descriptions of a frame; the first since reset decides the principal directions.

        Args:
            features: [C, h', w'] of each layer, floating or uint8 and best channels-last; the second is at STRIDE, and
                what follows at that or more. Only the directions of a place's features count, so their units may be
                any.
            rgb: [3, h, w] uint8, the picture they were found in.

        Returns:
            x [P, D] float32, row-major over the grid; and the grid's (height, width).

        Cost: 2 small matrix products a layer; a few ms at 427x240 on one core.
        """
        size = (features[1].shape[1], features[1].shape[2])
        # [P, C], so that a layer's channels lie together: norms and products are several times as fast as across rows.
        blocks = [block.permute(1, 2, 0).float().flatten(0, 1) for block in (halved(features[0]), *features[1:])]
        lengths = [torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp_min_(1e-12) for block in blocks]
        if not self._bases:
            pairs = zip(blocks, lengths, DIMENSIONS, strict=False)  # there may be fewer layers
            self._bases = [_principal(block / length, most) for block, length, most in pairs]
        parts = [
            (block @ basis.T).div_(length) for block, basis, length in zip(blocks, self._bases, lengths, strict=True)
        ]
        # What a layer sees at a greater stride is enlarged once it is projected: it has fewer numbers then.
        parts[2:] = [_enlarged(part, seen, size) for part, seen in zip(parts[2:], features[2:], strict=True)]
        parts += color_parts(rgb, size, self._device)
        parts.append(parts[0].new_ones(size[0] * size[1], 1))
        return torch.cat(parts, 1), size

    def score_map(self, x: Tensor, grid: tuple[int, int], features: Sequence[Tensor], rgb: Tensor) -> Tensor:
        """Each class's probability in the frame that describe saw, finer than its descriptions.

        Args:
            x, grid: what describe gave.
            features, rgb: what it was given.

        Returns:
            [K + 1, h, w] float32 over the picture's pixels: what the layers say is enlarged, what colours say is
            asked at each; a class that has learned nothing is nowhere.

        Cost: one D x D solve, a pass over the first layer and one over the picture, 6 ms at 427x240 on one core.
        """
        known, weights = self._solved()
        first, size = len(self._bases[0]), (features[0].shape[1], features[0].shape[2])
        # Of x: the first layer | those after it | colour, colour squared | colour around, 1.
        of_first, of_others, of_color, of_rest = weights.split([first, len(weights) - first - 10, 6, 4])
        coarse = x[:, first:-10] @ of_others + x[:, -4:] @ of_rest
        z = F.interpolate(coarse.T.unflatten(1, grid)[None], size=size, mode="bilinear")[0].flatten(1)
        block = features[0].permute(1, 2, 0).float().flatten(0, 1)
        lengths = torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp_min_(1e-12)
        # Not block @ ...: of so few columns it takes three times as long.
        z += F.linear(block, of_first.T @ self._bases[0]).div_(lengths).T
        # A difference of colours is as sharp as the picture; at the first layer's stride J is .0017 lower.
        picture = (rgb.shape[1], rgb.shape[2])
        z = F.interpolate(z.unflatten(1, size)[None], size=picture, mode="bilinear")[0].flatten(1)
        color = small_picture(rgb, picture, self._device).flatten(1)
        z.addmm_(of_color.T, torch.cat([color, color * color]))
        found = z.new_zeros(self.classes, *picture)
        found[known] = torch.softmax(z.mul_(SHARPNESS), 0).unflatten(1, picture)
        return found

    def learn(
        self,
        x: Tensor,
        shares: Tensor,
        *,
        pause: Sequence[int] = (),
        loose: Sequence[int] = (),
        near: Tensor | None = None,
        passed: int = 1,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """Take in a frame.

        Args:
            x: its descriptions.
            shares: [K + 1, P] how much of each block is which class's, 0..1.
            pause: classes that learn nothing from this frame.
            loose: classes whose first frame was no more than a guess: they remember a mean of all frames.
            near: [P] how near each block is to an object, 0..1; wanted where the background is yet unknown.
            passed: frames since the one that was learned before.
            grid: the (height, width) in which the blocks lie: on a CPU a class that has most of them learns from every
                second then, as on a chessboard. On eight DAVIS sequences J is the same, and half of the time is saved.
        """
        sure = (2 * shares.to(x) - 1).clamp_min(0)
        if near is not None and not self.knows(0):
            sure[0] *= 1 + NEAR_WEIGHT * near.to(x)
        for k in range(self.classes):
            if k in pause:
                continue
            moment = _moment(x, sure[k], grid)
            recent = self._recent[k]
            anchor = self._anchor[k]
            self._frames[k] += 1
            if anchor is None:
                self._anchor[k] = moment
            elif k in loose:
                self._anchor[k] = torch.lerp(anchor, moment, max(LOOSE_RATE, 1 / self._frames[k]))
            else:
                self._recent[k] = moment if recent is None else torch.lerp(moment, recent, FORGET**passed)

    def _solved(self) -> tuple[list[int], Tensor]:
        """The classes that have learned something, and what each part of x says of them, [D, len(known)]."""
        known = [k for k in range(self.classes) if self._anchor[k] is not None]
        moments = [self._moments(k) for k in known]
        total = torch.stack(moments).sum(0)
        total = total + RIDGE * len(known) * torch.eye(len(total), device=total.device)
        means = torch.stack([moment[-1] for moment in moments], 1)  # x ends in a 1, so its mean is the last row
        return known, torch.linalg.solve_ex(total, means)[0]

    def _moments(self, k: int) -> Tensor:
        anchor, recent = self._anchor[k], self._recent[k]
        assert anchor is not None
        return anchor if recent is None else torch.lerp(recent, anchor, ANCHOR)

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {
            "bases": [_array(basis) for basis in self._bases],
            "anchor": [_array(moment) for moment in self._anchor],
            "recent": [_array(moment) for moment in self._recent],
            "frames": list(self._frames),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the model whose state_dict this is."""
        self._bases = [torch.from_numpy(basis).to(self._device) for basis in state["bases"]]
        self._anchor = [self._tensor(moment) for moment in state["anchor"]]
        self._recent = [self._tensor(moment) for moment in state["recent"]]
        self._frames = list(state["frames"])

    def _tensor(self, moment: np.ndarray | None) -> Tensor | None:
        return None if moment is None else torch.from_numpy(moment).to(self._device)


def _moment(x: Tensor, weight: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """The mean [D, D] of x x^T over rows of x [P, D], by weight [P]; over some of them, see AppearanceModel.learn."""
    if x.device.type == "cpu":  # elsewhere how many count would have to be waited for
        rows = weight.nonzero()[:, 0]
        if len(rows) < len(x) / 2:  # of most objects
            x, weight = x[rows], weight[rows]
        elif grid is not None:
            x, weight = x[_every_second(grid)], weight[_every_second(grid)]
    return (x * (weight / weight.sum().clamp_min(1e-6))[:, None]).T @ x


@functools.lru_cache(maxsize=4)
def _every_second(grid: tuple[int, int]) -> Tensor | slice:
    """Which of a grid's places, in rows, are white on a chessboard; where its width is odd every second is."""
    if grid[1] % 2:
        return slice(None, None, 2)  # a view, for nothing
    rows, columns = np.indices(grid)
    return torch.from_numpy(np.flatnonzero((rows + columns) % 2 == 0))


def small_picture(rgb: Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """A picture [3, h, w] uint8 at a size and on a device, -0.5 .. 0.5."""
    picture = rgb.to(device, non_blocking=True).float().div_(255).sub_(0.5)
    return picture if picture.shape[1:] == size else F.interpolate(picture[None], size=size, mode="area")[0]


def color_parts(rgb: Tensor, size: tuple[int, int], device: torch.device) -> list[Tensor]:
    """What a description has of a picture [3, h, w] uint8: colours, their squares and colours around, [P, 3] each."""
    color = small_picture(rgb, size, device)
    grown = F.pad(color[None], (4,) * 4, mode="replicate")
    around = F.avg_pool2d(F.avg_pool2d(grown, (9, 1), 1), (1, 9), 1)[0]  # in half the time of a square
    return [plane.flatten(1).T for plane in (color, color * color, around)]


def halved(features: Tensor) -> Tensor:
    """The means of 2 x 2, floating; at an odd border those of what is there."""
    if features.device.type != "cpu":
        return F.avg_pool2d(features[None], 2, ceil_mode=True)[0]
    # torch's own pooling of channels-last takes seven times as long; and bytes are added up in two bytes.
    rows = features.permute(1, 2, 0).to(torch.int16 if features.dtype == torch.uint8 else torch.float32)
    if rows.shape[0] % 2:
        rows = torch.cat([rows, rows[-1:]])
    if rows.shape[1] % 2:
        rows = torch.cat([rows, rows[:, -1:]], 1)
    upper, lower = rows[::2], rows[1::2]
    sums = (upper[:, ::2] + lower[:, ::2]).add_(upper[:, 1::2]).add_(lower[:, 1::2])
    return sums.float().mul_(0.25).permute(2, 0, 1)


def _enlarged(part: Tensor, seen: Tensor, size: tuple[int, int]) -> Tensor:
    """[P, d] over a grid of a size, of a part [p, d] over the places of what a layer has seen, [C, h', w']."""
    times = max(-(-size[0] // seen.shape[1]), -(-size[1] // seen.shape[2]))  # the longer side tells
    # Not size=: where a grid's last places reach beyond the picture all others would be moved by that.
    larger = F.interpolate(part.T.unflatten(1, seen.shape[1:])[None], scale_factor=times, mode="bilinear")
    return larger[0, :, : size[0], : size[1]].flatten(1).T


def _principal(x: Tensor, most: int) -> Tensor:
    """[most, C] directions in which the rows of x [P, C] are largest, sums of squares and not of differences."""
    products = (x.T @ x / len(x)).cpu().double()  # synchronises; in float32 a flat picture's do not converge
    _, directions = torch.linalg.eigh(products)
    return directions[:, -most:].T.to(x).contiguous()


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.cpu().numpy()
