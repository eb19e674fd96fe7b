"""The only two places where pixels cross between host and device, and the choice of device and precision."""

from __future__ import annotations

import platform

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
    return torch.bfloat16 if has_native_bfloat16() else torch.float32


def has_native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; oneDNN also takes it where it must be emulated, slowly."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, ask, bool)() for ask in asks)
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def upload(planes: tuple[np.ndarray, ...], device: torch.device) -> Planes:
    """uint8 planes to the device; on a CPU no copy is made."""
    y, u, v = (torch.from_numpy(plane).to(device) for plane in planes)
    return y, u, v


def download(planes: Planes) -> tuple[np.ndarray, ...]:
    """uint8 planes to the host; on a CPU no copy is made."""
    return tuple(plane.cpu().numpy() for plane in planes)  # synchronises
