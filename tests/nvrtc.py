"""Compiles kernels to real cubins with NVRTC, the compiler CuPy uses; needs no GPU, only two wheels."""

from __future__ import annotations

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


class CompileError(Exception):
    """NVRTC refused; its log."""


def compile_cubin(text: str, architecture: str, defines: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """A kernel's cubin for an architecture such as "sm_90", and the compiler's log.

    Raises:
        ImportError: the wheels cuda-bindings and nvidia-cuda-nvrtc are not installed.
        CompileError: the text does not compile.
    """
    from cuda.bindings import nvrtc

    def call(result: tuple) -> object:
        error, *values = result
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(str(error))
        return values[0] if values else None

    program = call(nvrtc.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], []))
    options = [f"--gpu-architecture={architecture}", "-std=c++17", *(f"-D{define}" for define in defines)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    # NVRTC writes into it: one byte alone would be Python's own b" ", the same for the whole process.
    log = b" " * (1 + call(nvrtc.nvrtcGetProgramLogSize(program)))
    call(nvrtc.nvrtcGetProgramLog(program, log))
    said = log.rstrip(b"\0 ").decode()
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(said)
    cubin = b" " * call(nvrtc.nvrtcGetCUBINSize(program))
    call(nvrtc.nvrtcGetCUBIN(program, cubin))
    call(nvrtc.nvrtcDestroyProgram(program))
    return cubin, said
