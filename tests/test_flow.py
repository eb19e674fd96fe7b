import threading
import time
import weakref
from contextlib import closing
from itertools import islice

import pytest

from streamstyle.flow import Ahead, Gauge, parallel, prefetch, rebatch

PATIENCE_S = 10  # a deadline for what must happen, never a measure of speed


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def drain(items, got):
    """Append items to got one by one, so that got holds those before an error."""
    for item in items:
        got.append(item)


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """Counts what it gave, notes the thread it ran and was closed on; may fail at one item or when closed."""

    def __init__(self, count=10, fail_at=None, fail_on_close=False):
        self.count, self.fail_at, self.fail_on_close = count, fail_at, fail_on_close
        self.given, self.ran_on, self.closed_on = 0, None, None

    def __iter__(self):
        return self

    def __next__(self):
        self.ran_on = threading.current_thread()
        if self.given == self.fail_at:
            raise OSError("the source failed")
        if self.given == self.count:
            raise StopIteration
        self.given += 1
        return self.given - 1

    def close(self):
        self.closed_on = threading.current_thread()
        if self.fail_on_close:
            raise OSError("the close failed")


@pytest.mark.parametrize("depth", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_prefetch_keeps_every_item_in_order(count, depth):
    assert list(prefetch(Source(count), depth)) == list(range(count))


def test_prefetch_takes_items_that_look_like_its_own_marks():
    items = [None, (), (None, None), (object(), OSError("an item, not an error"))]
    assert list(prefetch(items, 2)) == items


@pytest.mark.parametrize("depth", [1, 4])
def test_prefetch_reads_ahead_just_so_far(depth):
    source = Source(100)
    ahead = prefetch(source, depth)
    assert next(ahead) == 0
    furthest = 1 + depth + 1  # taken, waiting, and one in the worker's hand
    wait_until(lambda: source.given == furthest)
    time.sleep(0.2)  # several of the worker's tries to hand the next one over
    assert source.given == furthest
    ahead.close()


def test_prefetch_runs_upstream_on_another_thread_and_closes_it_there():
    source = Source()
    list(prefetch(source, 2))
    assert source.ran_on is source.closed_on
    assert source.ran_on is not threading.current_thread()


def test_prefetch_gives_the_items_before_an_error_and_then_the_error():
    source, got = Source(fail_at=3), []
    with pytest.raises(OSError, match="the source failed"):
        drain(prefetch(source, 5), got)
    assert got == [0, 1, 2]
    assert source.closed_on is source.ran_on


def test_prefetch_reports_an_error_in_close_after_the_last_item():
    got = []
    with pytest.raises(OSError, match="the close failed"):
        drain(prefetch(Source(3, fail_on_close=True), 2), got)
    assert got == [0, 1, 2]


def test_prefetch_reports_the_first_error_of_two():
    with pytest.raises(OSError, match="the source failed"):
        list(prefetch(Source(fail_at=1, fail_on_close=True), 2))


@pytest.mark.parametrize("depth", [1, 4])
def test_closing_early_stops_the_worker_and_closes_upstream_on_its_thread(depth):
    source = Source(10**9)
    ahead = prefetch(source, depth)
    next(ahead)
    worker = source.ran_on
    ahead.close()
    assert not worker.is_alive()
    assert source.closed_on is worker


def test_closing_early_with_an_error_in_close_neither_hangs_nor_raises():
    ahead = prefetch(Source(10**9, fail_on_close=True), 1)
    next(ahead)
    ahead.close()


def test_an_error_of_the_consumer_stops_the_worker():
    source = Source(10**9)
    ahead = prefetch(source, 1)

    def consume():
        for _ in ahead:
            raise KeyError("the consumer failed")

    with pytest.raises(KeyError, match="the consumer failed"):
        consume()
    ahead.close()
    assert source.closed_on is not None


def test_prefetch_can_be_nested():
    inner = Source(10**9)
    outer = prefetch(prefetch(inner, 1), 1)
    assert [next(outer) for _ in range(5)] == [0, 1, 2, 3, 4]
    outer.close()
    assert inner.closed_on is inner.ran_on


def test_prefetch_holds_no_item_that_the_consumer_has_let_go():
    class Batch:
        pass

    freed = []

    def batches():
        for number in range(4):
            wait_until(lambda made=number: len(freed) == made)  # on the worker, while the consumer waits for this one
            batch = Batch()
            weakref.finalize(batch, freed.append, number)
            yield batch
            del batch

    for item in prefetch(batches(), 2):
        assert isinstance(item, Batch)
        del item
    assert freed == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [0, -1])
def test_prefetch_refuses_a_depth_below_one(depth):
    with pytest.raises(ValueError, match=f"depth must be at least 1, got {depth}"):
        next(prefetch([1], depth))


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 2, []), (1, 2, [[0]]), (4, 2, [[0, 1], [2, 3]]), (5, 2, [[0, 1], [2, 3], [4]]), (2, 1, [[0], [1]])],
)
def test_rebatch_groups_in_order_and_keeps_the_rest(count, size, expected):
    assert list(rebatch(range(count), size)) == expected


def test_rebatch_reads_nothing_ahead():
    source = Source(10)
    batches = rebatch(source, 3)
    next(batches)
    assert source.given == 3


def test_rebatch_refuses_a_size_below_one():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        next(rebatch([1], 0))


def test_an_upstream_that_cannot_be_opened_is_an_error():
    class Closed:
        def __iter__(self):
            raise OSError("cannot open")

    with pytest.raises(OSError, match="cannot open"):
        list(prefetch(Closed(), 1))


# -- what waited for what -------------------------------------------------------------------------------------------


def test_a_gauge_names_the_slower_side():
    def slowly(items, pause_s):
        for item in items:
            time.sleep(pause_s)
            yield item

    slow_above, slow_below = Gauge("above"), Gauge("below")
    assert list(prefetch(slowly(range(20), 0.01), 2, slow_above)) == list(range(20))
    assert list(slowly(prefetch(range(20), 2, slow_below), 0.01)) == list(range(20))
    assert (slow_above.items, slow_below.items, slow_above.depth) == (20, 20, 2)
    assert slow_above.occupancy < slow_below.occupancy <= 1
    assert slow_above.downstream_waits_s > slow_above.upstream_waits_s
    assert slow_below.upstream_waits_s > slow_below.downstream_waits_s


@pytest.mark.parametrize(
    ("begin", "edge", "groups"),
    [
        (0, 0, [[0, 1, 2], [3, 4, 5], [6, 7]]),
        (0, 4, [[0, 1, 2], [3], [4, 5, 6], [7]]),
        (4, 6, [[0, 1], [2, 3, 4], [5, 6, 7]]),
        (0, 3, [[0, 1, 2], [3, 4, 5], [6, 7]]),
    ],
)
def test_groups_end_at_edges(begin, edge, groups):
    assert list(rebatch(range(8), 3, begin=begin, edge=edge)) == groups


@pytest.mark.parametrize(
    ("size", "first", "begin", "edge", "lengths"),
    [
        (8, 1, 0, 0, [1, 1, 2, 4, 8, 8, 1]),
        (4, 1, 0, 0, [1, 1, 2, 4, 4, 4, 4, 4, 1]),
        (8, 3, 0, 0, [3, 3, 6, 8, 5]),
        (2, 9, 0, 0, [2] * 12 + [1]),
        (8, 1, 9, 10, [1, 1, 2, 4, 3, 8, 2, 4]),
        (1, 1, 0, 0, [1] * 25),
    ],
)
def test_first_groups_may_be_short(size, first, begin, edge, lengths):
    groups = list(rebatch(range(25), size, first=first, begin=begin, edge=edge))
    assert [len(group) for group in groups] == lengths
    assert [item for group in groups for item in group] == list(range(25))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_last_item_is_known(count):
    items = Ahead(range(count))
    assert [(i, items.is_over) for i in items] == [(i, i == count - 1) for i in range(count)]
    assert items.is_over


def test_what_is_looked_at_ahead_keeps_its_turn_and_is_taken_once():
    taken: list[int] = []
    items = Ahead(taken.append(i) or i for i in range(9))
    assert next(items) == 0
    assert list(islice(items.ahead(), 3)) == list(islice(items.ahead(), 3)) == [1, 2, 3]
    assert taken == [0, 1, 2, 3]
    assert [next(items), next(items)] == [1, 2]
    assert list(islice(items.ahead(), 2)) == [3, 4]
    assert list(items) == [3, 4, 5, 6, 7, 8]
    assert taken == list(range(9))


def test_an_error_ahead_arrives_where_it_is_looked_at():
    def items():
        yield from range(3)
        raise ValueError("broken")

    ahead = Ahead(items())
    assert next(ahead) == 0
    with pytest.raises(ValueError, match="broken"):
        list(ahead.ahead())


def test_closing_closes_what_is_looked_at_ahead():
    closed = threading.Event()

    def items():
        try:
            yield from range(9)
        finally:
            closed.set()

    with closing(Ahead(items())) as ahead:
        assert list(islice(ahead.ahead(), 2)) == [0, 1]
    assert closed.is_set()
    assert list(Ahead(range(2))) == [0, 1]


# -- several workers ------------------------------------------------------------------------------------------------


def test_a_result_is_given_before_another_item_is_waited_for():
    """The third item comes only once the first one's result was given."""
    given = threading.Event()

    def items():
        yield 1
        done.wait(10)  # the work is done, but has nobody taken it?
        time.sleep(0.05)
        yield 2
        assert given.wait(10)
        yield 3

    def work(item):
        done.set()
        return item

    done = threading.Event()
    got = []
    for result in parallel(items(), work, 3):
        got.append(result)
        given.set()
    assert got == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_work_is_shared_and_comes_in_order(workers):
    threads = set()

    def work(item):
        threads.add(threading.get_ident())
        time.sleep(0.003 if item % 3 else 0)
        return item * item

    assert list(parallel(range(40), work, workers)) == [i * i for i in range(40)]
    assert len(threads) <= workers
    assert threading.get_ident() not in threads
    assert list(parallel([], work, workers)) == []


def test_workers_take_little_ahead_and_are_set_up_once_each():
    taken, setups = [0], []

    def items():
        for i in range(30):
            taken[0] += 1
            yield i

    for done, _ in enumerate(parallel(items(), lambda item: item, 2, setup=lambda: setups.append(1)), 1):
        assert taken[0] <= done + 3
    assert len(setups) <= 2


def test_an_error_of_a_worker_arrives_after_the_results_before_it_and_nothing_outlives_it():
    threads, closed, got = threading.active_count(), [], []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    def work(item):
        if item == 5:
            raise ValueError("five")
        return item

    with pytest.raises(ValueError, match="five"):
        drain(parallel(items(), work, 3), got)
    assert got == [0, 1, 2, 3, 4]
    assert closed == [True]
    wait_until(lambda: threading.active_count() == threads)


def test_an_error_above_the_workers_arrives_after_the_results_before_it():
    def items():
        yield from range(7)
        raise ValueError("above")

    got = []
    with pytest.raises(ValueError, match="above"):
        drain(parallel(items(), lambda item: item, 3), got)
    assert got == [*range(7)]


def test_closing_early_ends_the_workers():
    threads = threading.active_count()
    shared = parallel(range(1000), lambda item: item, 3)
    assert next(shared) == 0
    shared.close()
    wait_until(lambda: threading.active_count() == threads)


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        next(parallel([1], lambda item: item, 0))


def test_an_upstream_that_is_done_early_is_not_at_work_until_the_end():
    gauge, work_s = Gauge("quick"), 0.2
    for _ in prefetch(Source(3), depth=3, gauge=gauge):
        time.sleep(work_s)
    assert gauge.upstream_waits_s > 1.5 * work_s  # it had made all three before the first was looked at
