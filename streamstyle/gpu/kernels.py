"""The only door to kernels/*.cu, and the only file that imports CuPy (lazily: nothing here needs a GPU to import)."""

from __future__ import annotations

from pathlib import Path

import torch

from streamstyle.errors import DeviceError

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_kernels", _PACKAGE.parent / "kernels")  # in an installed wheel; in the repository


def source(stem: str) -> Path:
    """The path of a kernel's source, ``<stem>.cu``.

    Raises:
        DeviceError: there is none of that name; the message lists those there are.
    """
    for folder in _FOLDERS:
        path = folder / f"{stem}.cu"
        if path.is_file():
            return path
    stems = sorted(path.stem for folder in _FOLDERS for path in folder.glob("*.cu"))
    raise DeviceError(f"no CUDA source {stem}.cu; there are: {', '.join(stems) or 'none'}")


def available() -> tuple[bool, str]:
    """Whether CUDA kernels can run here, and on what, or else why not and what mends it. Never raises."""
    if torch.version.cuda is None:
        return False, f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return False, f"torch {torch.__version__} finds no CUDA device; check the driver with nvidia-smi"
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        return False, f"CuPy cannot be imported ({_one_line(error)}); pip install 'streamstyle[cuda]'"
    except Exception as error:  # cupy_backends' own errors: a driver too old, a library that cannot be loaded
        return False, f"CuPy {cupy.__version__} cannot use the device ({_one_line(error)})"
    if count == 0:
        return False, f"CuPy {cupy.__version__} finds no CUDA device"
    return True, f"{torch.cuda.get_device_name()}, CuPy {cupy.__version__}"


def _one_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
