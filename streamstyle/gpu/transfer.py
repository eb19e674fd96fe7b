"""Where pixels cross to the device, the choice of device and precision, and what fits. The way back is in streams."""

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
    """The networks' floats: what is asked for, or the half precision the device is quick in, else float32.

    Of the painting's two halves float16 is nearer (26 styles on two films: 51 to 69 dB in the median, against 38 to 51
    in bfloat16; the largest value in HED is 3 100 of float16's 65 504), so CUDA uses it. CPUs multiply bfloat16.
    Around 8-bit integers (``stages.stylize_int8``) they are float32.
    """
    if precision != "auto":
        return {"int8": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            precision
        ]
    if device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(device)[0] >= 7 else torch.float32
    return torch.bfloat16 if has_native_bfloat16() else torch.float32


def has_native(dtype: torch.dtype) -> bool:
    """Whether this CPU computes in a floating dtype itself; of 16 bits it does in bfloat16 at most."""
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_native_bfloat16())


def has_native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; oneDNN also takes it where it must be emulated, slowly."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, ask, bool)() for ask in asks)
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def upload(planes: tuple[np.ndarray, ...], device: torch.device) -> Planes:
    """uint8 planes to the device, from pinned memory without waiting; on a CPU no copy is made."""
    y, u, v = (to_device(torch.from_numpy(plane), device) for plane in planes)
    return y, u, v


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor on the device, copied on the current CUDA stream without waiting; on a CPU the tensor itself."""
    if device.type != "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def empty_pinned(shape: tuple[int, ...], device: torch.device) -> np.ndarray:
    """uint8 array for frames on their way to the device: pinned where that is CUDA, so that nobody waits for them.

    torch keeps freed pinned buffers and hands them out again once the copies out of them are over: a ring.
    """
    if device.type != "cuda":
        return np.empty(shape, np.uint8)
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
