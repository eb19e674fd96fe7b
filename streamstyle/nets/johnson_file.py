"""A painting network of Johnson's type, read from a .safetensors file in the words of three authors.

::

    pytorch/examples   conv1.conv2d.weight, in1.weight, res1.conv1.conv2d.weight, ... deconv3.conv2d.bias      OIHW
    lengstrom          Variable, Variable_1, ... : of each layer the convolution, the shift and the scale      HWIO
    streamstyle        pytorch/examples' words, no biases but the last, and an entry "streamstyle" in the metadata:
                       {"network": "johnson", "version": 1}, written as JSON; other keys may stand beside these two

Channels and the number of residual blocks are read from the shapes. A bias before an instance norm has no effect and is
left out. What the file says of itself is checked before anything is allocated; pickles are recognised, never opened.

Source: Johnson, Alahi and Fei-Fei 2016; pytorch/examples, fast_neural_style; lengstrom/fast-style-transfer.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamstyle.errors import OutputError, WeightsError

VERSION = 1
"""Of streamstyle's own form."""
MOST_CHANNELS = 1024
MOST_BLOCKS = 64
_FLOATS = {"F64", "F32", "F16", "BF16"}
_EXPECTED = "a network of pytorch/examples (conv1.conv2d.weight ...) or lengstrom (Variable, Variable_1 ...)"
# What training leaves in a checkpoint beside the network.
_STALE = re.compile(r"running_(mean|var)$|num_batches_tracked$|/Adam(_1)?$|^beta[12]_power$|^global_step$")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """What the tensors do not say.

    Attributes:
        padding: of the convolutions; "zero" is TensorFlow's SAME, which at a stride of 2 pads after, not before.
        up: nearest doubling before a convolution, or a transposed convolution of stride 2.
        epsilon: of the instance norms.
        output: "levels", the last convolution's 0..255; or "tanh", a norm, then 150 tanh + 127.5.
    """

    padding: Literal["reflect", "zero"]
    up: Literal["nearest", "transposed"]
    epsilon: float
    output: Literal["levels", "tanh"]


EXAMPLES = Recipe("reflect", "nearest", 1e-5, "levels")
LENGSTROM = Recipe("zero", "transposed", 1e-3, "tanh")


@dataclass(frozen=True)
class Parameters:
    """A network's tensors, float32, a convolution [O, I, k, k] a layer.

    A transposed convolution adds input pixel i times weight [:, :, a] to output pixel 2 i + a. gamma and beta have one
    [O] a layer; the last layer has none in the recipe "levels", and bias instead.
    """

    recipe: Recipe
    convolution: list[Tensor]
    gamma: list[Tensor]
    beta: list[Tensor]
    bias: Tensor | None = None


def read(path: Path) -> Parameters:
    """The network in a file.

    Raises:
        WeightsError: there is no such file, it is no .safetensors or a damaged one, it holds another network, or its
            numbers are not finite.
    """
    _refuse_others(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            return _parameters(path, file)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged, cut short, or no .safetensors file ({_line(error)}); copy or download it again"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or _line(error)})") from error


def write(path: Path, net: Parameters, about: Mapping[str, str] | None = None) -> None:
    """Write a network in streamstyle's own form; about: more entries for its JSON, such as the painting's title.

    Raises:
        OutputError: path cannot be written, or net is of another recipe than pytorch/examples'.
    """
    if net.recipe != EXAMPLES:
        raise OutputError(f"cannot write {path}: streamstyle's form is for the recipe {EXAMPLES}, not {net.recipe}")
    tensors = {}
    for i, name in enumerate(_example_names((len(net.convolution) - 6) // 2)):
        tensors[f"{name[0]}.conv2d.weight"] = net.convolution[i]
        if i < len(net.gamma):
            tensors |= {f"{name[1]}.weight": net.gamma[i], f"{name[1]}.bias": net.beta[i]}
        elif net.bias is not None:
            tensors[f"{name[0]}.conv2d.bias"] = net.bias
    own = json.dumps({**(about or {}), "network": "johnson", "version": VERSION})
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.write_bytes(safetensors.torch.save(plain, {"streamstyle": own}))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _refuse_others(path: Path) -> None:
    """Say what a file is that is plainly no .safetensors, and how to make one of it."""
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise WeightsError(f"{path}: a folder or a device, not a file; name a .safetensors file")
    try:
        with path.open("rb") as file:
            start = file.read(10)
            names = zipfile.ZipFile(file).namelist() if start.startswith(b"PK\x03\x04") else []
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; a style is one of `streamstyle styles` or a .safetensors") from None
    except zipfile.BadZipFile:
        raise WeightsError(f"{path}: a damaged zip archive, no .safetensors file; download it again") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    to = repr(str(path.with_suffix(".safetensors")))
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError(
            f"{path}: a NumPy archive; convert it with python -c "
            f'"import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load({str(path)!r})), {to})"'
        )
    # A pickle starts with its protocol; read as the length of a header, that byte needs a { after the eighth.
    if names or (start[:1] == b"\x80" and start[8:9] != b"{"):
        raise WeightsError(
            f"{path}: a PyTorch pickle, which could run a program when opened; if you trust it, convert it with "
            f'python -c "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in '
            f"torch.load({str(path)!r}, map_location='cpu', weights_only=True).items()}}, {to})\""
        )


def _parameters(path: Path, file: safetensors.safe_open) -> Parameters:
    _check_form(path, (file.metadata() or {}).get("streamstyle"))
    found: dict[str, str] = {}  # the plain name -> the file's
    for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
        plain = key.removeprefix("module.").removesuffix(":0")
        if not _STALE.search(plain):
            found[plain] = key
    slices = {plain: file.get_slice(key) for plain, key in found.items()}
    shapes = {plain: tuple(part.get_shape()) for plain, part in slices.items()}
    if "conv1.conv2d.weight" in shapes:
        wanted, take, recipe = _of_examples(path, shapes), _take_examples, EXAMPLES
    elif "Variable" in shapes:
        wanted, take, recipe = _of_lengstrom(path, shapes), _take_lengstrom, LENGSTROM
    else:
        seen = ", ".join(sorted(found)[:3]) or "no tensors"
        raise WeightsError(f"{path}: holds {seen} ({len(found)} in all), not {_EXPECTED}")
    _check_shapes(path, shapes, wanted)
    for plain in wanted:
        if plain in slices and slices[plain].get_dtype() not in _FLOATS:
            kind = slices[plain].get_dtype()
            raise WeightsError(f"{path}: {plain} is {kind}, not floating numbers; save the network unquantised")

    def tensor(plain: str) -> Tensor:
        values = file.get_tensor(found[plain]).to(torch.float32, copy=True)  # not the file's own memory
        if not torch.isfinite(values).all():
            raise WeightsError(f"{path}: {plain} has NaN or infinite numbers; its training failed, take another file")
        return values

    return take(tensor, wanted, recipe, shapes)


def _check_form(path: Path, own: str | None) -> None:
    """Refuse a file of streamstyle's own form that this version does not know."""
    if own is None:
        return
    try:
        form = json.loads(own)
    except ValueError:
        form = None
    if not isinstance(form, dict) or form.get("network") != "johnson" or form.get("version") != VERSION:
        raise WeightsError(
            f"{path}: its metadata says streamstyle = {own[:80]!r}, and this version reads network johnson, version "
            f"{VERSION}; update streamstyle"
        )


def _example_names(blocks: int) -> list[tuple[str, str]]:
    """Of each layer the convolution's name and its norm's; the last has none."""
    first = [(f"conv{i}", f"in{i}") for i in (1, 2, 3)]
    trunk = [(f"res{b}.conv{half}", f"res{b}.in{half}") for b in range(1, blocks + 1) for half in (1, 2)]
    return [*first, *trunk, ("deconv1", "in4"), ("deconv2", "in5"), ("deconv3", "")]


def _check_blocks(path: Path, blocks: int) -> None:
    if blocks > MOST_BLOCKS:
        raise WeightsError(f"{path}: has {blocks} residual blocks, more than {MOST_BLOCKS}; not {_EXPECTED}")


def _of_examples(path: Path, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that pytorch/examples' names should have, by the channels its convolutions say."""

    def outputs(name: str) -> int:
        return (*shapes.get(f"{name}.conv2d.weight", ()), 0)[0]

    blocks = len({m[1] for m in (re.match(r"res(\d+)\.", name) for name in shapes) if m})
    _check_blocks(path, blocks)
    wanted: dict[str, Shape] = {}
    inputs = 3
    for conv, norm in _example_names(blocks):
        channels = 3 if conv == "deconv3" else outputs("conv3") if conv.startswith("res") else outputs(conv)
        size = 9 if conv in ("conv1", "deconv3") else 3
        wanted[f"{conv}.conv2d.weight"] = (channels, inputs, size, size)
        if norm:
            wanted |= {f"{norm}.weight": (channels,), f"{norm}.bias": (channels,)}
        if f"{conv}.conv2d.bias" in shapes:
            wanted[f"{conv}.conv2d.bias"] = (channels,)
        inputs = channels
    return wanted


def _of_lengstrom(path: Path, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that lengstrom's variables should have, in their order."""
    count = sum(bool(re.fullmatch(r"Variable(_\d+)?", name)) for name in shapes)
    layers, left = divmod(count, 3)
    if left or layers < 6 or layers % 2:
        raise WeightsError(f"{path}: has {count} tensors called Variable, and a network of lengstrom's has 18, 24, ...")
    _check_blocks(path, (layers - 6) // 2)
    names = ["Variable", *(f"Variable_{i}" for i in range(1, count))]
    wanted: dict[str, Shape] = {}
    inputs = 3
    for i in range(layers):
        up = i in (layers - 3, layers - 2)
        size = 9 if i in (0, layers - 1) else 3
        found = shapes.get(names[3 * i], ())
        channels = 3 if i == layers - 1 else found[2 if up else 3] if len(found) == 4 else 0
        channels = inputs if 3 <= i < layers - 3 else channels
        wanted[names[3 * i]] = (size, size, channels, inputs) if up else (size, size, inputs, channels)
        wanted |= {names[3 * i + 1]: (channels,), names[3 * i + 2]: (channels,)}
        inputs = channels
    return wanted


def _check_shapes(path: Path, shapes: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> None:
    missing, unknown = [n for n in wanted if n not in shapes], sorted(shapes.keys() - wanted.keys())
    for name, shape in shapes.items():
        if math.prod(shape) > 81 * MOST_CHANNELS**2 or max(shape, default=0) > MOST_CHANNELS:
            raise WeightsError(f"{path}: {name} is {[*shape]}, more than {MOST_CHANNELS} channels; not {_EXPECTED}")
    if missing:
        raise WeightsError(f"{path}: {missing[0]} is missing, and {len(missing) - 1} more; expected {_EXPECTED}")
    if unknown:
        raise WeightsError(f"{path}: {unknown[0]} is of another network, and {len(unknown) - 1} more; not {_EXPECTED}")
    for name, shape in wanted.items():
        if shapes[name] != shape or 0 in shape:
            raise WeightsError(f"{path}: {name} is {[*shapes[name]]}, expected {[*shape]}; not {_EXPECTED}")


Take = Callable[[str], Tensor]


def _take_examples(
    tensor: Take, wanted: Mapping[str, Shape], recipe: Recipe, shapes: Mapping[str, Shape]
) -> Parameters:
    names = _example_names((sum(name.startswith("res") and name.endswith("conv2d.weight") for name in wanted)) // 2)
    bias = "deconv3.conv2d.bias"
    return Parameters(
        recipe,
        [tensor(f"{conv}.conv2d.weight") for conv, _ in names],
        [tensor(f"{norm}.weight") for _, norm in names[:-1]],
        [tensor(f"{norm}.bias") for _, norm in names[:-1]],
        tensor(bias) if bias in shapes else torch.zeros(3),
    )


def _take_lengstrom(
    tensor: Take, wanted: Mapping[str, Shape], recipe: Recipe, shapes: Mapping[str, Shape]
) -> Parameters:
    names, layers = list(wanted), len(wanted) // 3
    turn = [(2, 3, 0, 1) if i in (layers - 3, layers - 2) else (3, 2, 0, 1) for i in range(layers)]
    return Parameters(
        recipe,
        [tensor(names[3 * i]).permute(turn[i]).contiguous() for i in range(layers)],
        [tensor(names[3 * i + 2]) for i in range(layers)],
        [tensor(names[3 * i + 1]) for i in range(layers)],
    )
