"""The per-pixel affine beside a copy, and the whole painting network beside two plain forms of it.

    python benchmarks/bench_stylize_regions.py

On a GPU: the affine of each kind of layer at 1080p, batch 4, in GB/s against a device copy; the network with three
styles beside the same layers with nn.InstanceNorm2d, channels-last, and beside torch.compile of the per-pixel
reference; its convolutions alone, so that the rest can be told; the composite against a copy. On a CPU: our production
path beside nn.InstanceNorm2d, and the composite, at 640x360.

Bytes of the affine, a pixel of y with C channels of B bytes that count: C * B read and written, 4 of index (of each
phase that has its own), C * B more where it adds to what is there. The picture into blocks: 3 B read, 4 B written; from
them: 4 B and 4 of index read, 3 B written. The composite: 3 B of RGB, 4 of index, 1.5 of the original and 1.5
written; 3 B and 1.5 where all is painted. Its table of shares is in the caches.
"""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from common import Rows, copy_gbps, figure, run_stage_bench, time_on, try_peer, weights_or_random

from streamstyle.frames import ColorTags
from streamstyle.gpu.transfer import choose_dtype
from streamstyle.nets.stylenet import LAYERS, StyleNet
from streamstyle.stages.blends import blend_shares
from streamstyle.stages.composite import composite
from streamstyle.stages.folding import TRUNK_OUTPUTS, forms
from streamstyle.stages.stylize_int8 import Int8Stylizer, in_bytes
from streamstyle.stages.stylize_regions import (
    LEVELS,
    RegionStylizer,
    affine_into,
    blend_table,
    picture_from,
    picture_into,
)

STYLES = 3
# Layers by kind: their number, channels of y, of the next input, scale of y, border of the next input in px.
KINDS = (
    (0, 128, 32, 2, 1),
    (1, 32, 32, 2, 1),
    (4, TRUNK_OUTPUTS, 32, 4, 1),
    (15, TRUNK_OUTPUTS, 8, 4, 1),
    (16, 16, 4, 2, 4),
)


class Plain(torch.nn.Module):
    """The same layers as anyone writes them: one style, nn.InstanceNorm2d with the frame's own statistics."""

    def __init__(self, net: StyleNet, style: int) -> None:
        super().__init__()
        inputs = [3, *(layer.channels for layer in LAYERS[:-1])]
        self.convolutions = torch.nn.ModuleList()
        self.norms = torch.nn.ModuleList()
        for i, (layer, channels) in enumerate(zip(LAYERS, inputs, strict=True)):
            pad = layer.size // 2
            convolution = torch.nn.Conv2d(channels, layer.channels, layer.size, layer.step, pad, 1, 1, False, "reflect")
            convolution.weight.data.copy_(net.convolution[i])
            norm = torch.nn.InstanceNorm2d(layer.channels, affine=True)
            norm.weight.data.copy_(net.gamma[i][style])
            norm.bias.data.copy_(net.beta[i][style])
            self.convolutions.append(convolution)
            self.norms.append(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x
        for layer, convolution, norm in zip(LAYERS, self.convolutions, self.norms, strict=True):
            x = norm(convolution(F.interpolate(x, scale_factor=2.0) if layer.up else x))
            if layer.activation == "relu":
                x = x.relu()
            elif layer.activation == "residual":
                x = x + skip
            if layer.activation == "residual" or layer.name == "contract.2":
                skip = x
        return x.sigmoid()


def measure(device: torch.device) -> Rows:
    """Figures on a device; results are verified first."""
    on_gpu = device.type == "cuda"
    count, size = (4, (1080, 1920)) if on_gpu else (1, (360, 640))
    dtype = choose_dtype("auto", device)
    torch.manual_seed(0)
    weights_or_random()
    torch.backends.cudnn.allow_tf32 = False  # float32 stands for itself
    if on_gpu:
        copy = copy_gbps(device)
        for kind in KINDS:
            yield from _affine(kind, device, dtype, count, size, copy)
        yield from _pictures(device, dtype, count, size, copy)
    yield from _composite(device, dtype, count, size)
    yield from _network(device, dtype, count, size)


@torch.inference_mode()
def _network(device: torch.device, dtype: torch.dtype, count: int, size: tuple[int, int]) -> Rows:
    height, width = size
    rgb = F.interpolate(torch.rand(count, 3, height // 8, width // 8), size, mode="bicubic").clamp(0, 1).to(device)
    weights = StyleNet.load()
    ours, exact = RegionStylizer(weights, device, dtype), RegionStylizer(weights, device, torch.float32, impl="ref")
    styles = [exact.record(rgb[:1], weights.norms(style)) for style in (19, 8, 3)]
    columns = torch.arange(width, device=device) * STYLES // width
    index = ((columns * STYLES + columns) * LEVELS + LEVELS - 1).to(torch.int32).expand(count, height, width)
    index = index.contiguous()
    table = blend_table(styles)
    apart = (ours.paint(rgb, table, index).float() - exact.paint(rgb, table, index)).abs().mean()
    assert apart < 0.02, f"painting is {apart:.4f} from the reference in float32"
    plain = Plain(weights, 19).to(device, dtype).eval()
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = rgb.to(dtype).contiguous(memory_format=torch.channels_last)
    own = (plain(image[:1]).float() - weights.to(device)(rgb[:1], 19)).abs().mean()
    assert own < 0.05, f"the plain network is {own:.4f} from the published one"
    del exact
    where, ms = f"{width}x{height}, batch {count}, {str(dtype).removeprefix('torch.')}", []
    for name, call in (
        (f"network, {STYLES} styles, {where}", lambda: ours.paint(image, table, index)),
        (f"network, 1 style, {where}", lambda: ours.paint(image, styles[0])),
        ("nn.InstanceNorm2d channels-last, 1 style", lambda: plain(image)),
    ):
        ms.append(time_on(device, call)["median"] / count)
        yield figure(name, ms[-1], "ms/frame")
    convolutions = _convolutions(ours, image, table, index)
    alone_ms = time_on(device, lambda: [F.conv2d(*rest, **named) for rest, named in convolutions])["median"] / count
    yield figure("convolutions of the network alone", alone_ms, "ms/frame")
    mixed_ms, one_ms, plain_ms = ms
    if in_bytes("auto", device):
        yield from _in_bytes(rgb, index, mixed_ms, one_ms)
    yield figure(f"nn.InstanceNorm2d / ours ({STYLES} styles)", plain_ms / mixed_ms, "x", goal=2.0)
    yield figure("nn.InstanceNorm2d / ours (1 style)", plain_ms / one_ms, "x", goal=2.0)
    if device.type == "cuda":

        def with_compile() -> float:
            net = RegionStylizer(weights, device, dtype, impl="ref", compile_lookup=True)
            net.paint(image, table, index)
            if net.compile_error is not None:
                raise RuntimeError(net.compile_error)
            return time_on(device, lambda: net.paint(image, table, index))["median"] / count

        compiled_ms = try_peer("torch.compile of the per-pixel reference", with_compile)
        if compiled_ms is not None:
            yield figure(f"torch.compile of the per-pixel reference, {STYLES} styles", compiled_ms, "ms/frame")
            yield figure(f"torch.compile / ours ({STYLES} styles)", compiled_ms / mixed_ms, "x", goal=1.2)


def _in_bytes(rgb: torch.Tensor, index: torch.Tensor, mixed_ms: float, one_ms: float) -> Rows:
    """The same in 8-bit integers, which is what such a processor paints in."""
    weights, device = StyleNet.load(), rgb.device
    net = Int8Stylizer(weights, device)
    styles = [net.record(rgb[:1], weights.norms(style)) for style in (19, 8, 3)]
    table, count = blend_table(styles), len(rgb)
    for name, call, floats_ms in (
        (f"{STYLES} styles", lambda: net.paint(rgb, table, index), mixed_ms),
        ("1 style", lambda: net.paint(rgb, styles[0]), one_ms),
    ):
        ms = time_on(device, call)["median"] / count
        yield figure(f"network in 8-bit integers, {name}", ms, "ms/frame")
        yield figure(f"in floats / in 8-bit integers, {name}", floats_ms / ms, "x")


def _convolutions(net: RegionStylizer, *painted: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each convolution while net paints."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    convolve = F.conv2d

    def noted(*rest: Any, **named: Any) -> torch.Tensor:
        calls.append((rest, named))
        return convolve(*rest, **named)

    with mock.patch.object(F, "conv2d", noted):
        net.paint(*painted)
    return calls


def _rows(count: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Table rows of whole styles, 64 pixels each."""
    rows = torch.randint(0, STYLES * STYLES, (count, 1, -(-width // 64)), device=device).repeat_interleave(64, 2)
    return (rows[..., :width].expand(count, height, width) * LEVELS + LEVELS - 1).to(torch.int32).contiguous()


def _affine(
    kind: tuple[int, int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    count: int,
    size: tuple[int, int],
    copy: float,
) -> Rows:
    layer, channels, kept, scale_px, pad = kind
    form, activation, name = forms(LAYERS)[layer], LAYERS[layer].activation, LAYERS[layer].name
    height, width = size[0] // scale_px, size[1] // scale_px
    side, block = 1 + form.up, 1 + form.folded
    y = torch.randn(count, height, width, channels, device=device, dtype=dtype)
    index = _rows(count, scale_px * height, scale_px * width, device)
    scale, shift = torch.rand(2, STYLES * STYLES * LEVELS, kept, device=device)
    shape = (count, kept * block**2, (side * height + 2 * pad) // block, (side * width + 2 * pad) // block)
    padded = torch.zeros(shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def call(impl: str = "auto") -> torch.Tensor:
        return affine_into(y, index, scale, shift, padded, activation=activation, form=form, impl=impl)

    found = call().clone()
    padded.zero_()
    expected = call("ref").clone()
    torch.testing.assert_close(found.float(), expected.float(), rtol=2**-6, atol=2**-6)
    ms = time_on(device, call)["median"]
    pixels = count * height * width
    moved = pixels * kept * side**2 * y.element_size() * (3 if activation == "residual" else 2)
    gbps = (moved + 4 * pixels * (4 if form.apart else 1)) / ms / 1e6
    yield figure(f"affine, {name}, [{count}, {height}, {width}, {channels}]", gbps, "GB/s")
    yield figure(f"affine, {name} / copy", gbps / copy, "x", goal=0.7)


def _pictures(device: torch.device, dtype: torch.dtype, count: int, size: tuple[int, int], copy: float) -> Rows:
    """What is before the first convolution and after the last."""
    height, width = size
    rgb = torch.rand(count, 3, *size, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    padded = torch.empty(count, 16, height // 2 + 4, width // 2 + 4, device=device, dtype=dtype)
    padded = padded.contiguous(memory_format=torch.channels_last)
    y = torch.randn(count, height // 2, width // 2, 16, device=device, dtype=dtype)
    index = _rows(count, height, width, device)
    scale, shift = torch.rand(2, STYLES * STYLES * LEVELS, 3, device=device)
    assert torch.equal(picture_into(rgb, padded).clone(), picture_into(rgb, padded, impl="ref"))
    expected = picture_from(y.clone(), index, scale, shift, impl="ref").float()
    torch.testing.assert_close(picture_from(y, index, scale, shift).float(), expected, rtol=2**-6, atol=2**-6)
    for name, call, moved in (
        ("picture into blocks", lambda: picture_into(rgb, padded), 7 * rgb.element_size()),
        ("picture from blocks", lambda: picture_from(y, index, scale, shift), 7 * rgb.element_size() + 4),
    ):
        gbps = count * height * width * moved / time_on(device, call)["median"] / 1e6
        yield figure(f"affine, {name}", gbps, "GB/s")
        yield figure(f"affine, {name} / copy", gbps / copy, "x", goal=0.7)


def _composite(device: torch.device, dtype: torch.dtype, count: int, size: tuple[int, int]) -> Rows:
    half = (size[0] // 2, size[1] // 2)
    rgb = torch.rand(count, 3, *size, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    y, u, v = (torch.randint(0, 256, (count, *s), dtype=torch.uint8, device=device) for s in (size, half, half))
    index = _rows(count, *size, device)
    shares = blend_shares(torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.7, 0.0]], device=device))
    given = rgb, (y, u, v), ColorTags(), index, shares
    for found, expected in zip(
        composite(*given, subsample=True), composite(*given, subsample=True, impl="ref"), strict=True
    ):
        assert (found.int() - expected.int()).abs().max() <= 1
    for name, call, moved in (
        ("composite", lambda impl="auto": composite(*given, subsample=True, impl=impl), 4 + 1.5),
        ("composite, all painted", lambda impl="auto": composite(rgb, None, ColorTags(), subsample=True, impl=impl), 0),
    ):
        ours = time_on(device, call)["median"]
        yield figure(f"{name}, 4:2:0", ours / count, "ms/frame")
        if device.type == "cuda":
            gbps = count * size[0] * size[1] * (3 * rgb.element_size() + moved + 1.5) / ours / 1e6
            yield figure(f"{name} / copy", gbps / copy_gbps(device), "x", goal=0.7)
            reference = time_on(device, functools.partial(call, "ref"))["median"]
            yield figure(f"{name}, torch reference / ours", reference / ours, "x")


if __name__ == "__main__":
    run_stage_bench("stylize_regions", measure)
