"""The CUDA streams of a job: a batch goes up, is analysed, is painted and comes down while its neighbours do.

::

    upload     │ batch 3 │ batch 4 │
    analysis   │ batch 2 │ batch 3 │           the host follows the objects of batch 2 meanwhile
    paint      │   batch 1   │   batch 2   │             calm, where it is wanted, has a lane of its own after it
    download   │ batch 0 │   batch 1 │

On a CPU there is nothing to overlap here: each part is done when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

Lane = Literal["upload", "analysis", "paint", "calm", "download"]
Mark = torch.cuda.Event | None
"""A moment on a lane; None on a CPU, where all that was asked for is done."""


class Lanes:
    """CUDA streams by name, and the waiting between them. See Note [Crossing]."""

    # Note [Crossing]
    # A tensor belongs to the CUDA stream it was made on. Another stream may use it once it has waited for the moment it
    # was ready (a mark); and so that the allocator does not give its memory away while that use is still to come, the
    # tensor is told of it (record_stream). `on` does both, for what is named in `after` and `uses`; nothing else
    # crosses. Any thread may work on any lane.

    def __init__(self, device: torch.device) -> None:
        self._streams: dict[str, torch.cuda.Stream] = {}
        if device.type == "cuda":
            weights = torch.cuda.current_stream(device)  # the networks' were put there
            for name in get_args(Lane):
                cuda_stream = torch.cuda.Stream(device)
                cuda_stream.wait_stream(weights)
                self._streams[name] = cuda_stream

    @contextmanager
    def on(self, lane: Lane, *, after: Mark = None, uses: Iterable[Tensor] = ()) -> Iterator[None]:
        """Do what follows on a lane, not before the mark; uses are the tensors of other lanes that it will read."""
        if not self._streams:
            yield
            return
        cuda_stream = self._streams[lane]
        if after is not None:
            cuda_stream.wait_event(after)
        for tensor in uses:
            tensor.record_stream(cuda_stream)
        with torch.cuda.stream(cuda_stream):
            yield

    def mark(self, lane: Lane) -> Mark:
        """The moment when all that is so far asked of a lane is done."""
        return self._streams[lane].record_event() if self._streams else None


class Download:
    """Tensors on their way to the host, from the current CUDA stream; on a CPU they are there already.

    Args:
        tensors: of any shape and dtype, on one device; kept until they have arrived.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = tuple(tensors)
        self._host, self._arrived = self._tensors, None
        if self._tensors and self._tensors[0].is_cuda:
            # torch keeps freed pinned buffers, and hands one out again once the copies out of it are over: a ring.
            self._host = tuple(torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in self._tensors)
            for target, source in zip(self._host, self._tensors, strict=True):
                target.copy_(source, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()  # synchronises
            self._arrived, self._tensors = None, ()
        return self._host
