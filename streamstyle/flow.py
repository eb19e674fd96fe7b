"""Bounded hand-over between threads. Knows no video and no GPU."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_DONE = object()


@dataclass
class Gauge:
    """How a hand-over went: who waited for whom.

    Attributes:
        name: of the stage upstream.
        items: handed over.
        filled: sum over the items of how many waited, each time one was taken.
        depth: how many may wait.
        upstream_waits_s: how long the stage upstream had nowhere to put its item, or was done before the stage below:
            that one was slower.
        downstream_waits_s: how long the stage below had nothing to take.
    """

    name: str = ""
    items: int = 0
    filled: int = 0
    depth: int = 1
    upstream_waits_s: float = 0.0
    downstream_waits_s: float = 0.0

    @property
    def occupancy(self) -> float:
        """Mean share of the queue that was full, 0..1: near 1 the stage below binds, near 0 the stage above."""
        return self.filled / max(1, self.items * self.depth)


def prefetch(upstream: Iterable[T], depth: int, gauge: Gauge | None = None) -> Generator[T, None, None]:
    """Run upstream on a thread of its own; at most depth finished items wait, and one more is in the making.

    Order is kept. An exception in upstream arrives after the items before it. Closing this generator early stops the
    worker, closes upstream on the worker's thread, and joins: no thread outlives its consumer.

    Args:
        upstream: any iterable; it is iterated, and closed if it can be, on the worker thread only.
        depth: how many finished items may wait, at least 1.
        gauge: filled in as items pass.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    gauge = gauge if gauge is not None else Gauge()
    gauge.depth = depth
    waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    done_at: list[float] = []

    def offer(item: Any) -> bool:
        began = time.perf_counter()
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.05)
            except queue.Full:
                continue
            gauge.upstream_waits_s += time.perf_counter() - began
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
            done_at.append(time.perf_counter())

    worker = threading.Thread(target=work, name=f"streamstyle-{gauge.name or 'prefetch'}", daemon=True)
    worker.start()
    try:
        while True:
            filled, began = waiting.qsize(), time.perf_counter()
            item = waiting.get()
            gauge.downstream_waits_s += time.perf_counter() - began
            if isinstance(item, tuple) and len(item) == 2 and item[0] is _DONE:
                if item[1] is not None:
                    raise item[1]
                return
            gauge.items, gauge.filled = gauge.items + 1, gauge.filled + filled
            yield item
            del item
    finally:
        stop.set()
        worker.join()
        gauge.upstream_waits_s += time.perf_counter() - done_at[0]


def parallel(
    upstream: Iterable[T], work: Callable[[T], R], workers: int, *, setup: Callable[[], object] = lambda: None
) -> Generator[R, None, None]:
    """work of each item, done by several threads, given in the order of the items; as many again are taken ahead.

    A result that is there is given before another item is waited for.

    An exception in work, or in upstream, arrives after the results before it. Closing this generator early lets the
    work in hand end, drops what waits, closes upstream, and joins.

    Args:
        upstream: iterated on the consumer's thread.
        work: called on the workers' threads.
        workers: how many threads, at least 1.
        setup: called once on each.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    iterator = iter(upstream)
    pool = ThreadPoolExecutor(workers, "streamstyle-worker", setup)
    begun: deque[Future[R]] = deque()
    try:
        error: BaseException | None = None
        while True:
            while begun and (len(begun) > workers or begun[0].done()):
                yield begun.popleft().result()
            try:
                item = next(iterator)
            except StopIteration:
                break
            except BaseException as caught:  # told after what came before it
                error = caught
                break
            begun.append(pool.submit(work, item))
            del item
        while begun:
            yield begun.popleft().result()
        if error is not None:
            raise error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def rebatch(
    items: Iterable[T], size: int, *, begin: int = 0, edge: int = 0, first: int | None = None
) -> Iterator[list[T]]:
    """Group items into lists of size, shorter at the end and at edges; nothing is read ahead of the list being filled.

    Args:
        items: any iterable.
        size: items a list.
        begin: number of the first item.
        edge: no list reaches over an item whose number is a multiple of edge; 0 means no edges.
        first: items of the first list, each later one as long as all before it until it has size: 1, 1, 2, 4 ... so
            that whoever waits for the first item need not wait for others. None means size.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    group: list[T] = []
    wanted = size if first is None else min(first, size)
    for number, item in enumerate(items, begin + 1):
        group.append(item)
        if len(group) == wanted or (edge and number % edge == 0):
            yield group
            group, wanted = [], min(size, max(wanted, number - begin))
    if group:
        yield group


class Ahead(Generic[T]):
    """Items that may be looked at before their turn; those are held until it comes, and no more than was looked at.

    An error upstream arrives where it is looked at, before items that are held. Were it kept back until its turn, what
    is seen ahead would differ from what a run sees that does not meet it. Closing this closes upstream.

    Args:
        upstream: any iterable.
    """

    def __init__(self, upstream: Iterable[T]) -> None:
        self._upstream = iter(upstream)
        self._held: deque[T] = deque()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._held.popleft() if self._held else next(self._upstream)

    def ahead(self) -> Iterator[T]:
        """The items whose turn is next, in order, each taken from upstream when it is asked for; they keep their turn.

        No item may be taken in its turn while this is iterated.
        """
        yield from self._held
        for item in self._upstream:
            self._held.append(item)
            yield item

    @property
    def is_over(self) -> bool:
        """Whether no item is left; looks at the next one."""
        return next((False for _ in self.ahead()), True)

    def close(self) -> None:
        """Drop what is held, and close upstream if it can be."""
        self._held.clear()
        close = getattr(self._upstream, "close", None)
        if close is not None:
            close()
