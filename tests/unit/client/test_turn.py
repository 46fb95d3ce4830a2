"""Who does the I/O, and in which order callbacks run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from raykafka.client.producing.futures import Callbacks
from raykafka.client.producing.turn import Bell, Turn
from raykafka.errors import IllegalStateError


def test_one_thread_at_a_time() -> None:
    turn = Turn()
    assert turn.try_enter()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(turn.try_enter).result(10) is False
    with pytest.raises(IllegalStateError, match="cannot wait for it"):
        turn.try_enter()
    turn.leave()
    assert turn.try_enter()
    turn.leave()


def test_leaving_wakes_one_who_waits_for_something_else() -> None:
    turn = Turn()
    turn.try_enter()
    turn.wanted = True
    entered = threading.Event()

    def wait() -> bool:
        entered.set()
        turn.wait(lambda: False, 10)
        return turn.try_enter()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert entered.wait(10)
        turn.leave()
        assert waiting.result(10) is True
    assert not turn.wanted


def test_who_got_what_it_waits_for_is_woken_by_notify() -> None:
    turn = Turn()
    turn.try_enter()
    settled = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(turn.wait, settled.is_set, 10) for _ in range(3)]
        while len(turn._waiting) < 3:
            pass
        turn.notify()
        assert not any(each.done() for each in waiting)
        settled.set()
        turn.notify()
        for each in waiting:
            each.result(10)
    assert turn._waiting == []


def test_nobody_waits_for_a_free_turn() -> None:
    turn = Turn()
    turn.wait(lambda: False, 1000)


class Settled:
    """A group of which some results are known."""

    def __init__(self) -> None:
        self.known: set[int] = set()
        self.callbacks = None

    def settled(self, index: int) -> bool:
        return index in self.known


def test_callbacks_wait_for_their_own_result() -> None:
    callbacks, group, seen = Callbacks(), Settled(), []
    for index in range(3):
        assert callbacks.add(group, index, lambda index=index: seen.append(index))
    group.known = {2}
    assert not callbacks.add(group, 2, lambda: None)
    callbacks.collect(group)
    assert callbacks.due
    callbacks.run()
    assert seen == [2]
    group.known = {0, 1, 2}
    callbacks.collect(group)
    callbacks.run()
    assert seen == [2, 0, 1]
    assert not callbacks.due


def test_callbacks_of_several_threads_run_one_at_a_time_and_in_order() -> None:
    callbacks, seen = Callbacks(), []
    running = threading.Lock()

    def call(index: int) -> None:
        assert running.acquire(blocking=False)
        seen.append(index)
        running.release()

    def bring(group: Settled) -> None:
        callbacks.collect(group)
        callbacks.run(wait=True)

    groups = []
    for index in range(200):
        group = Settled()
        callbacks.add(group, 0, lambda index=index: call(index))
        group.known = {0}
        groups.append(group)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bring, groups))
    assert sorted(seen) == list(range(200))


def test_a_callback_that_brings_more_does_not_wait_for_itself() -> None:
    callbacks, seen = Callbacks(), []
    inner = Settled()
    callbacks.add(inner, 0, lambda: seen.append("inner"))
    outer = Settled()

    def bring_more() -> None:
        inner.known = {0}
        callbacks.collect(inner)
        callbacks.run(wait=True)
        seen.append("outer")

    callbacks.add(outer, 0, bring_more)
    outer.known = {0}
    callbacks.collect(outer)
    callbacks.run()
    assert seen == ["outer", "inner"]


def test_a_bell_rings_once_for_everything_since_it_last_did() -> None:
    bell = Bell()
    assert not bell.wait(0)
    bell.ring()
    bell.ring()
    assert bell.wait(None)
    assert not bell.wait(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bell.wait, None)
        bell.ring()
        assert waiting.result(10)
