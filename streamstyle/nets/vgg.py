"""VGG-16 as trained on ImageNet, to conv4_3: the features by which content and style are compared.

::

    RGB ─ conv1_1 conv1_2 ─ pool ─ conv2_1 conv2_2 ─ pool ─ conv3_1 conv3_2 conv3_3 ─ pool ─ conv4_1 conv4_2 conv4_3
             64                      128                       256                            512 channels

Two published forms are read: torchvision's state dict (``vgg16-397923af.pth``; RGB, mean and deviation of ImageNet),
and an .npz of the original (``convB_K.weight``, ``convB_K.bias``; BGR, 0..255, minus the mean). Both become one form
that takes RGB in 0..1.

Source: Simonyan and Zisserman 2014. Differs: max-pools keep the last odd row or column out, as torchvision's do.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamstyle.errors import OptionError, ShapeError, WeightsError

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3))  # channels, convolutions
CONVOLUTIONS = tuple(f"conv{b}_{k}" for b, (_, count) in enumerate(_BLOCKS, 1) for k in range(1, count + 1))
STYLE_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3")
"""Of Gram matrices, as Johnson et al. 2016 and Ghiasi et al. 2017 have them."""
CONTENT_LAYER = "conv3_3"
_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)  # numbers of the convolutions among its ``features``
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
_CAFFE_MEAN_RGB = (123.68, 116.779, 103.939)  # of 0..255


class VGG16(nn.Module):
    """Features of pictures after chosen convolutions and their ReLUs."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels_in = 3
        for block, (channels, count) in enumerate(_BLOCKS, 1):
            for k in range(1, count + 1):
                self.add_module(f"conv{block}_{k}", nn.Conv2d(channels_in, channels, 3, padding=1))
                channels_in = channels
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("deviation", torch.ones(3))

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VGG16:
        """The trained network, for inference: channels-last, in eval mode, without gradients of its own.

        Args:
            path: torchvision's file, or an .npz of the original.
            device: where to put it.
            dtype: of its convolutions; float32, bfloat16 or float16.

        Raises:
            WeightsError: no such file, or not one of the two forms; nothing in it is run.
        """
        path = Path(path)
        with torch.device("meta"):
            net = cls()
        net.load_state_dict(_tensors(path, {key: like.shape for key, like in net.state_dict().items()}), assign=True)
        for name in CONVOLUTIONS:
            net.get_submodule(name).to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads forget it
        net.to(device=device)
        return net.eval().requires_grad_(False)

    def forward(self, rgb: Tensor, layers: Sequence[str] = STYLE_LAYERS) -> dict[str, Tensor]:
        """What chosen layers see.

        Args:
            rgb: [N, 3, H, W] floating point, 0..1; H and W at least 8.
            layers: names of convolutions; no deeper one is computed.

        Returns:
            name to [N, C, H >> (block - 1), W >> (block - 1)], not negative, in the network's dtype.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] floating point of that size; the message shows what it is.
            OptionError: no such layer.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point() or min(rgb.shape[2:]) < 8:
            got = f"{list(rgb.shape)} {rgb.dtype}"
            raise ShapeError(f"rgb must be [N, 3, H, W] floating point, H and W at least 8, got {got}")
        if unknown := set(layers) - set(CONVOLUTIONS):
            raise OptionError(f"layers {sorted(unknown)}: unknown; give some of {', '.join(CONVOLUTIONS)}")
        x = (rgb.float() - self.mean.view(1, 3, 1, 1)) / self.deviation.view(1, 3, 1, 1)
        x = x.to(dtype=cast(nn.Conv2d, self.conv1_1).weight.dtype, memory_format=torch.channels_last)
        features: dict[str, Tensor] = {}
        for name in CONVOLUTIONS:
            if len(features) == len(set(layers)):
                break
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(self.get_submodule(name)(x))
            if name in layers:
                features[name] = x
        return features


def gram(features: Tensor) -> Tensor:
    """Which channels are strong together: [N, C, C] float32, a mean over the pixels of [N, C, H, W] features."""
    flat = features.flatten(2).float()
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _tensors(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The state of VGG16, from either form."""
    kind, read = ("original", _read_npz) if path.suffix == ".npz" else ("torchvision", _read_pth)
    try:
        found = read(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; check the name") from None
    except Exception as error:  # a damaged archive or pickle fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: not VGG-16 weights ({reason}); give torchvision's vgg16-397923af.pth") from None
    if kind == "original":
        if "conv1_1.weight" in found:
            found["conv1_1.weight"] = found["conv1_1.weight"].flip(1)  # BGR
        found |= {"mean": torch.tensor(_CAFFE_MEAN_RGB) / 255, "deviation": torch.full((3,), 1 / 255)}
    else:
        found = {
            f"{name}.{part}": found[f"features.{number}.{part}"]
            for name, number in zip(CONVOLUTIONS, _TORCHVISION, strict=True)
            for part in ("weight", "bias")
            if f"features.{number}.{part}" in found
        }
        found |= {"mean": torch.tensor(_IMAGENET_MEAN), "deviation": torch.tensor(_IMAGENET_DEVIATION)}
    for key, shape in shapes.items():
        if key not in found or found[key].shape != shape:
            got = f"{list(found[key].shape)}" if key in found else "absent"
            raise WeightsError(f"{path}: {key} is {got}, expected {list(shape)}; give torchvision's vgg16-397923af.pth")
    return {key: found[key].float() for key in shapes}


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise zipfile.BadZipFile("not an .npz")
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def _read_pth(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {str(key): value for key, value in dict(state).items() if isinstance(value, Tensor)}
