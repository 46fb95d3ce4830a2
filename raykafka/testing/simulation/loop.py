"""An asyncio event loop for one simulated process, on the world's virtual time.

Within a process callbacks run in the order in which they were asked for, as on a real loop; which
process gets its turn next is chance. A dead process gets no turn any more, a paused one none until
it is resumed. ``run_in_executor`` calls the function at a later moment, between two turns.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from raykafka.testing.simulation.world import World

T = TypeVar("T")

MAX_CALLBACKS: Final = 16
"""Callbacks of one turn; those that are left wait while others get their turns."""
TURN_S: Final = (2e-6, 60e-6)
"""Shortest and longest wait for the next turn of a process that has something to do."""
THREAD_S: Final = (20e-6, 2e-3)
"""The same for a function that was handed to a thread, and once more for its result."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class NumberedFuture(asyncio.Future[Any]):
    """A future whose place in a set does not depend on its address."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class ProcessLoop(asyncio.AbstractEventLoop):
    """The loop of one process; ``kill``, ``pause`` and ``resume`` do what signals do."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.number = world.number()
        self.dead = False
        self.paused = False
        self.after_turn: Callable[[], None] | None = None
        """Called after every turn, outside of the process."""
        self._world = world
        self._ready: deque[asyncio.Handle] = deque()
        self._scheduled = False
        self._held: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._keep: set[asyncio.Task[Any]] = set()
        world.on_close.append(self._close)

    # --- the process ------------------------------------------------------------------------------

    def kill(self) -> None:
        """Nothing of the process runs any more."""
        self.dead = True
        # Kept to the end of the simulation: what is collected runs its ``finally`` blocks.
        self._keep |= asyncio.all_tasks(self)
        self._ready.clear()
        self._held.clear()

    def _close(self) -> None:
        """Nothing is to be revived by what runs while it is collected."""
        self.dead = True
        self._ready.clear()
        self._held.clear()
        self._keep.clear()

    def pause(self) -> None:
        """SIGSTOP: neither the loop nor a thread goes on."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        held, self._held = self._held, []
        for callback, args in held:
            self._world.after(self._world.delay(*TURN_S), callback, *args)
        if self._ready:
            self._schedule()

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``main`` as the first task of the process."""
        self.call_soon(lambda: self._keep.add(self.create_task(main())))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            world = self._world
            world.after(world.delay(*TURN_S), self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self.dead or self.paused:
            return
        ready = self._ready
        left = MAX_CALLBACKS
        self._scheduled = True  # what the callbacks ask for is done in this turn, or after it
        events._set_running_loop(self)
        try:
            while ready and left:
                left -= 1
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)
            self._scheduled = False
        self._world.trace.note(self._world.now, self.number, left)
        if self.after_turn is not None:
            self.after_turn()
        if ready:
            self._schedule()

    # --- AbstractEventLoop ------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds, monotonic."""
        return self._world.now

    def call_soon(  # type: ignore[override]  # the same, said without type variables
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Call ``callback`` in the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self._ready.append(handle)
            if not self._scheduled:
                self._schedule()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Call ``callback`` in ``delay`` seconds."""
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Call ``callback`` at ``when`` of this loop's time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self._world.at(when, self._on_timer, timer)
        return timer

    def _on_timer(self, timer: asyncio.TimerHandle) -> None:
        if not self.dead and not timer.cancelled():
            self._ready.append(timer)
            self._schedule()

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """The heap drops it when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return NumberedFuture(self._world.number(), self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        options = {} if context is None else {"context": context}
        return NumberedTask(self._world.number(), coro, loop=self, name=name, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call ``func`` at a later moment, outside of the loop, and hand the result over."""
        future = self.create_future()
        self._world.after(self._world.delay(*THREAD_S), self._in_thread, future, func, args)
        return future

    def _in_thread(self, future: asyncio.Future[Any], func: Callable[..., Any], args: Any) -> None:
        if not self.outside(self._in_thread, future, func, args):
            return
        try:
            result, error = func(*args), None
        except BaseException as raised:  # noqa: BLE001  # whatever it is, who waits is told
            result, error = None, raised
        self._world.after(self._world.delay(*THREAD_S), self._from_thread, future, result, error)

    def _from_thread(
        self, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        if self.outside(self._from_thread, future, result, error):
            self.call_soon(settle, future, result, error)

    def outside(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Whether a thread of the process may go on now; a paused one calls back when resumed."""
        if self.paused and not self.dead:
            self._held.append((callback, args))
            return False
        return not self.dead

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """True until the process is dead."""
        return not self.dead

    def is_closed(self) -> bool:
        """False: what a dead process still asks for is simply not done."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what an actor let escape; tasks of dead processes end without a word."""
        error = context.get("exception")
        if error is not None and not self.dead:
            self._world.troubles.append(f"{self.name}: {context['message']}: {error!r}")


@contextlib.contextmanager
def graveyard() -> Iterator[None]:
    """What runs within has a loop, as far as it can tell, which does nothing it is asked for."""
    world = World(0)
    loop = ProcessLoop(world, "graveyard")  # type: ignore[abstract]
    world.close()
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(None)


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future its result or its error, unless somebody has given it up."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
