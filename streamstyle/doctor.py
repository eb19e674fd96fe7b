"""What this machine has and lacks for streamstyle, one line each, with the mend; behind ``streamstyle doctor``."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamstyle._version import __version__


@dataclass(frozen=True)
class Check:
    """One row of the report.

    Attributes:
        name: what was looked at.
        ok: True, it is there; None, it is not and need not be; False, streamstyle will not work without it.
        detail: what was found.
        mend: what to do about it, or "".
    """

    name: str
    ok: bool | None
    detail: str
    mend: str = ""


def report() -> list[Check]:
    """Look at everything. Takes a second or two (it imports the libraries); no row raises."""
    checks: list[tuple[str, Callable[[], Check | list[Check]], str]] = [
        ("Python", _python, "install Python 3.11 or newer"),
        *((name, _import_check(name, module), _reinstall(name)) for name, module in _MODULES.items()),
        ("av", _av, _reinstall("av")),
        ("codecs", _codecs, _reinstall("av")),
        ("CPU", _cpu, ""),
        ("CUDA", _cuda, ""),
        ("CUDA kernels", _kernels, ""),
        ("C++ compiler", _compiler, ""),
        ("weights", _weights, "set STREAMSTYLE_WEIGHTS to a folder that can be read and written"),
    ]
    rows: list[Check] = []
    for name, check, mend in checks:
        try:
            found = check()
        except Exception as error:  # a broken installation can raise anything, and the report must still come out
            found = Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}"[:200], mend)
        rows += found if isinstance(found, list) else [found]
    return rows


def render(rows: list[Check]) -> str:
    """Rows as a plain-text table: a mark, the name and what was found; below a row that is not ok, its mend."""
    marks = {True: "ok", None: "--", False: "FAIL"}
    width = max((len(row.name) for row in rows), default=0)
    lines = []
    for row in rows:
        lines.append(f"{marks[row.ok]:>4}  {row.name:<{width}}  {row.detail}".rstrip())
        if row.mend and not row.ok:
            lines.append(f"{'':{width + 8}}-> {row.mend}")
    return "\n".join(lines)


_MODULES = {
    "torch": "torch",
    "numpy": "numpy",
    "kornia": "kornia",
    "opencv": "cv2",
    "safetensors": "safetensors",
    "h5py": "h5py",
    "onnx": "onnx",
}


def _reinstall(name: str) -> str:
    package = {"opencv": "opencv-python-headless"}.get(name, name)
    return f"{Path(sys.executable).name} -m pip install --force-reinstall {package}"


def _import_check(name: str, module: str) -> Callable[[], Check]:
    """A check that imports module: a package can be installed and still not load."""

    def check() -> Check:
        return Check(name, True, str(importlib.import_module(module).__version__))

    return check


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, streamstyle {__version__}"
    return Check("Python", sys.version_info >= (3, 11), detail, "install Python 3.11 or newer")


def _av() -> Check:
    from streamstyle.media import codecs

    found = codecs.versions()
    libraries = ", ".join(f"{name} {found[name]}" for name in ("libavcodec", "libavformat", "libswscale"))
    return Check("av", True, f"{found['av']} ({libraries})")


def _codecs() -> list[Check]:
    from streamstyle.media import codecs

    encoders = [name for name in ("libx264", "aac") if not codecs.has_encoder(name)]
    decoders = [name for name in ("h264", "hevc", "vp9") if not codecs.has_decoder(name)]
    if not any(codecs.has_decoder(name) for name in ("libdav1d", "libaom-av1")):
        decoders.append("av1")  # FFmpeg's own decoder of that name needs a GPU
    mend = "install the av wheel from PyPI, which carries its own FFmpeg: " + _reinstall("av")
    return [
        Check("encoders", not encoders, f"without {', '.join(encoders)}" if encoders else "libx264, aac", mend),
        Check("decoders", None if decoders else True, _decoders(decoders), mend),
    ]


def _decoders(missing: list[str]) -> str:
    return f"without {', '.join(missing)}: such films cannot be read" if missing else "h264, hevc, vp9, av1"


def _cpu() -> Check:
    from streamstyle.gpu.transfer import has_native_bfloat16
    from streamstyle.nets import int8
    from streamstyle.process import cores

    bfloat16 = has_native_bfloat16()
    edges = "8-bit integers" if int8.available() else "bfloat16" if bfloat16 else "float32"
    painting = "bfloat16" if bfloat16 else edges
    arithmetic = f"finds edges in {edges}, paints in {painting}"
    detail = f"{cpu_name()}, {cores()} cores, bfloat16 {'yes' if bfloat16 else 'no'}, {arithmetic}"
    return Check("CPU", True, detail)


def cpu_name() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Check("CUDA", True, f"{torch.cuda.get_device_name(0)}, {memory_gib:.0f} GiB, CUDA {torch.version.cuda}")
    if torch.version.cuda is None:
        return Check("CUDA", None, f"torch {torch.__version__} is built without it: all is computed on the CPU")
    mend = "check the driver with nvidia-smi"
    return Check("CUDA", None, f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no device", mend)


def _kernels() -> Check:
    from streamstyle.gpu import kernels

    can, detail = kernels.available()
    if not can:
        return Check("CUDA kernels", None, f"the torch reference instead ({detail})")
    failing = kernels.failing()
    mend = "reinstall CuPy for torch's CUDA (pip install 'streamstyle[cuda]' for 13, '[cuda12]' for 12)"
    return Check("CUDA kernels", not failing, "; ".join(failing) or f"{detail}, {len(kernels.stems())} compile", mend)


def _compiler() -> Check:
    """torch.compile builds C++ that includes Python.h."""
    wanted = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    compiler = next((path for name in wanted if name and (path := shutil.which(name))), None)
    if compiler is None:
        mend = "install g++ (Debian: apt install g++), or run with --compile off"
        return Check("C++ compiler", None, "none: torch.compile cannot be used", mend)
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        mend = "install Python's headers (Debian: apt install python3-dev), or run with --compile off"
        return Check("C++ compiler", None, f"{compiler}, but no Python.h: torch.compile cannot be used", mend)
    return Check("C++ compiler", True, compiler)


def _weights() -> list[Check]:
    from streamstyle.nets import weights

    mend = "streamstyle weights --fetch"
    rows = []
    for row in weights.status():
        state = {"ok": f"{row.size_bytes / 1e6:.0f} MB", "absent": "not yet fetched", "corrupt": "damaged"}[row.state]
        ok = True if row.state == "ok" else None  # what is absent or damaged is fetched when it is first needed
        rows.append(Check(row.name, ok, f"{state}, {row.path}", mend))
    return rows
