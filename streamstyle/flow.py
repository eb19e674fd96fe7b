"""Bounded hand-over between threads. Knows no video and no GPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_DONE = object()


def prefetch(upstream: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Run upstream on a thread of its own; at most depth finished items wait, and one more is in the making.

    Order is kept. An exception in upstream arrives after the items before it. Closing this generator early stops the
    worker, closes upstream on the worker's thread, and joins: no thread outlives its consumer.

    Args:
        upstream: any iterable; it is iterated, and closed if it can be, on the worker thread only.
        depth: how many finished items may wait, at least 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(item: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        error: BaseException | None = None
        iterator: Any = None
        try:
            iterator = iter(upstream)
            for item in iterator:
                if not offer(item):
                    break
                del item  # the queue holds it now; a second reference here would keep one more batch alive
        except BaseException as caught:  # handed to the consumer, whatever it is
            error = caught
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as caught:
                    error = error or caught
            offer((_DONE, error))

    worker = threading.Thread(target=work, name="streamstyle-prefetch", daemon=True)
    worker.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, tuple) and len(item) == 2 and item[0] is _DONE:
                if item[1] is not None:
                    raise item[1]
                return
            yield item
            del item
    finally:
        stop.set()
        worker.join()


def rebatch(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items into lists of size, the last one shorter; nothing is read ahead of the list being filled."""
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
