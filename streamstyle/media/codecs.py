"""What the FFmpeg inside PyAV can do here: its library versions, encoders and decoders."""

from __future__ import annotations

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError


def versions() -> dict[str, str]:
    """Versions of PyAV and of the libraries it carries: {"av": "14.0.0", "libavcodec": "61.3.100", ...}."""
    libraries = {name: ".".join(str(part) for part in version) for name, version in av.library_versions.items()}
    return {"av": av.__version__, **libraries}


def has_encoder(name: str) -> bool:
    """Whether FFmpeg here can encode; name is an encoder's (libx264) or a format's (h264)."""
    return _has(name, "w")


def has_decoder(name: str) -> bool:
    """Whether FFmpeg here can decode; name is a decoder's (libdav1d) or a format's (av1)."""
    return _has(name, "r")


def _has(name: str, mode: str) -> bool:
    try:
        Codec(name, mode)  # type: ignore[arg-type]
    except UnknownCodecError:
        return False
    return True
