"""What fits the device's memory: chosen from what is free, and halved when that was too much."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from streamstyle.errors import DeviceError

T = TypeVar("T")

SHARE_OF_FREE = 0.13
"""Of the device's free memory, for the frames one thread paints, and as much again for the network's layers. Two
threads paint, and the one that reads the film records statistics."""
BYTES_PER_PX = 120
"""Of a frame being painted: RGB, painting, blends, and where there are no kernels the masks of four styles."""
BYTES_PER_BAND_PX = 256
"""Of the network's layers, all at once."""
FEWEST_BAND_PX = 1 << 18


def frames_together(pixels: int, device: torch.device) -> int:
    """How many frames of so many pixels may be painted at once, by the memory that is free now; at least 1."""
    if device.type != "cuda":
        return 1 << 30  # a CPU paints frame by frame anyway
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free_bytes * SHARE_OF_FREE) // (pixels * BYTES_PER_PX))


def band_pixels(device: torch.device, most: int) -> int:
    """How many pixels the painting network may take at once, at most most, by the memory that is free now."""
    if device.type != "cuda":
        return most
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(FEWEST_BAND_PX, min(most, int(free_bytes * SHARE_OF_FREE) // BYTES_PER_BAND_PX))


class Portions:
    """Work on batches in portions that the device's memory holds.

    Args:
        device: whose memory.
        shrink: makes the work itself want less, beside smaller portions; False where it cannot.

    Attributes:
        halved: how often memory ran out.
    """

    def __init__(self, device: torch.device, shrink: Callable[[], bool]) -> None:
        self._device, self._shrink = device, shrink
        self._lock = threading.Lock()  # several threads may paint
        self._together = 0
        self.halved = 0

    def forget(self) -> None:
        """Begin again with what is free then."""
        self._together, self.halved = 0, 0

    def each(self, count: int, size: tuple[int, ...], work: Callable[[slice], T]) -> list[T]:
        """work of consecutive slices that cover 0..count; what runs out of memory is tried again in halves.

        Args:
            count: frames.
            size: (height, width) of one.
            work: is given a slice; must not have changed anything when it runs out of memory.

        Raises:
            DeviceError: not even one frame fits.
        """
        self._together = self._together or frames_together(size[0] * size[1], self._device)
        done: list[T] = []
        begin = 0
        while begin < count:
            part = slice(begin, min(count, begin + self._together))
            try:
                done.append(work(part))
                begin = part.stop
                continue
            except torch.OutOfMemoryError:
                pass  # mended below, where the exception no longer holds what the attempt had made
            self._halve(part.stop - part.start, size)
        return done

    def _halve(self, frames: int, size: tuple[int, ...]) -> None:
        with self._lock:
            shrunk = self._shrink()
            if frames == 1 and not shrunk:
                raise DeviceError(
                    f"{self._device}: out of memory for one frame of {size[1]}x{size[0]}; give a smaller --size, or "
                    "--device cpu"
                )
            if frames > 1:
                self._together = min(self._together, frames // 2)
            self.halved += 1
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
