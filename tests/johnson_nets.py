"""Networks of Johnson's type for tests: two authors' recipes in their own words, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor, nn

Channels = tuple[int, int, int, int, int]
SMALL: Channels = (8, 12, 16, 10, 6)


class Convolve(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, step: int = 1, double: bool = False) -> None:
        super().__init__()
        self.double = double
        self.pad = nn.ReflectionPad2d(size // 2)
        self.conv2d = nn.Conv2d(inputs, outputs, size, step)

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.double else x
        return self.conv2d(self.pad(x))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.in1 = Convolve(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True)
        self.conv2, self.in2 = Convolve(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.in2(self.conv2(torch.relu(self.in1(self.conv1(x)))))


class Transformer(nn.Module):
    """What pytorch/examples' fast_neural_style trains: 0..255 to 0..255, not clamped."""

    def __init__(self, channels: Channels = (32, 64, 128, 64, 32), blocks: int = 5) -> None:
        super().__init__()
        a, b, c, d, e = channels
        self.blocks = blocks
        self.conv1, self.in1 = Convolve(3, a, 9), nn.InstanceNorm2d(a, affine=True)
        self.conv2, self.in2 = Convolve(a, b, 3, 2), nn.InstanceNorm2d(b, affine=True)
        self.conv3, self.in3 = Convolve(b, c, 3, 2), nn.InstanceNorm2d(c, affine=True)
        for block in range(blocks):
            self.add_module(f"res{block + 1}", Residual(c))
        self.deconv1, self.in4 = Convolve(c, d, 3, double=True), nn.InstanceNorm2d(d, affine=True)
        self.deconv2, self.in5 = Convolve(d, e, 3, double=True), nn.InstanceNorm2d(e, affine=True)
        self.deconv3 = Convolve(e, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"in{i}")(getattr(self, f"conv{i}")(x)))
        for block in range(self.blocks):
            x = getattr(self, f"res{block + 1}")(x)
        x = torch.relu(self.in4(self.deconv1(x)))
        x = torch.relu(self.in5(self.deconv2(x)))
        return self.deconv3(x)


def transformer(channels: Channels = SMALL, blocks: int = 2, seed: int = 0) -> Transformer:
    """One whose numbers are random, and that paints about 0..255."""
    made = torch.Generator().manual_seed(seed)
    net = Transformer(channels, blocks).eval().requires_grad_(False)
    for name, value in net.named_parameters():
        if value.ndim == 4:
            value.copy_(torch.randn(value.shape, generator=made) * (2 / value[0].numel()) ** 0.5)
        else:
            value.copy_(torch.randn(value.shape, generator=made) * 0.3 + (name.endswith("weight")))
    net.deconv3.conv2d.weight *= 40
    net.deconv3.conv2d.bias += 127
    return net


def painted_by(net: Transformer, rgb: Tensor) -> Tensor:
    """0..1 to 0..1, with the frame's own statistics."""
    with torch.inference_mode():
        return (net(rgb * 255) / 255).clamp(0, 1)


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    safetensors.torch.save_file({name: x.contiguous() for name, x in tensors.items()}, path, metadata)
    return path


# -- lengstrom's ------------------------------------------------------------------------------------------------------


def variables(channels: Channels = SMALL, blocks: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Random numbers under the names and in the shapes that TensorFlow gives the recipe's variables."""
    random = np.random.default_rng(seed)
    a, b, c, d, e = channels
    shapes = [(9, 9, 3, a), (3, 3, a, b), (3, 3, b, c), *[(3, 3, c, c)] * (2 * blocks)]
    shapes += [(3, 3, d, c), (3, 3, e, d), (9, 9, e, 3)]
    made: list[np.ndarray] = []
    for i, shape in enumerate(shapes):
        outputs = shape[2] if i in (len(shapes) - 3, len(shapes) - 2) else shape[3]
        fan_in = np.prod(shape) / outputs
        made.append(random.normal(0, (2 / fan_in) ** 0.5, shape))
        made += [random.normal(0, 0.3, outputs), random.normal(1, 0.3, outputs)]
    return {f"Variable_{i}" if i else "Variable": x.astype(np.float32) for i, x in enumerate(made)}


def _same(x: np.ndarray, weight: np.ndarray, step: int) -> np.ndarray:
    """tf.nn.conv2d of [H, W, C] with SAME padding, by its definition."""
    size, out = weight.shape[0], [-(-n // step) for n in x.shape[:2]]
    total = [max((o - 1) * step + size - n, 0) for o, n in zip(out, x.shape[:2], strict=True)]
    x = np.pad(x, [*((t // 2, t - t // 2) for t in total), (0, 0)])
    y = np.zeros((*out, weight.shape[3]))
    for a, b in np.ndindex(size, size):
        y += x[a : a + step * out[0] : step, b : b + step * out[1] : step][: out[0], : out[1]] @ weight[a, b]
    return y


def _transposed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """tf.nn.conv2d_transpose of stride 2 with SAME padding: the gradient of _same, which pads 0 before and 1 after."""
    height, width = x.shape[:2]
    y = np.zeros((2 * height + 1, 2 * width + 1, weight.shape[2]))
    for a, b in np.ndindex(3, 3):
        y[a : a + 2 * height : 2, b : b + 2 * width : 2] += x @ weight[a, b].T
    return y[: 2 * height, : 2 * width]


def painted_by_variables(named: dict[str, np.ndarray], rgb: np.ndarray) -> np.ndarray:
    """lengstrom's transform.net on [H, W, 3] of 0..1, in float64: what evaluate.py writes, as 0..1."""
    left = [named["Variable"], *(named[f"Variable_{i}"] for i in range(1, len(named)))]
    left = [x.astype(np.float64) for x in left]

    def norm(y: np.ndarray) -> np.ndarray:
        shift, scale = left.pop(0), left.pop(0)
        return scale * (y - y.mean((0, 1))) / np.sqrt(y.var((0, 1)) + 1e-3) + shift

    x = rgb.astype(np.float64) * 255
    for step in (1, 2, 2):
        x = np.maximum(norm(_same(x, left.pop(0), step)), 0)
    for _ in range((len(named) // 3 - 6) // 2):
        y = np.maximum(norm(_same(x, left.pop(0), 1)), 0)
        x = x + norm(_same(y, left.pop(0), 1))
    for _ in range(2):
        x = np.maximum(norm(_transposed(x, left.pop(0))), 0)
    return np.clip(np.tanh(norm(_same(x, left.pop(0), 1))) * 150 + 127.5, 0, 255) / 255


def save_variables(path: Path, named: dict[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file(named, path)
    return path
