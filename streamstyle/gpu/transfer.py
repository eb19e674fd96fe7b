"""The only two places where pixels cross between host and device, and the choice of device and precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streamstyle.config import Device
from streamstyle.errors import DeviceError

Planes = tuple[Tensor, Tensor, Tensor]


def choose_device(wanted: Device) -> torch.device:
    """The torch device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        DeviceError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise DeviceError(
            "--device cuda: this torch sees no CUDA device; use --device cpu, or see `streamstyle doctor`"
        )
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float32
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.bfloat16 if supported is not None and supported() else torch.float32


def upload(planes: tuple[np.ndarray, ...], device: torch.device) -> Planes:
    """uint8 planes to the device; on a CPU no copy is made."""
    y, u, v = (torch.from_numpy(plane).to(device, non_blocking=True) for plane in planes)
    return y, u, v


def download(planes: Planes) -> tuple[np.ndarray, ...]:
    """uint8 planes to the host; on a CPU no copy is made."""
    return tuple(plane.cpu().numpy() for plane in planes)  # synchronises
