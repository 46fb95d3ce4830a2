"""Priorities of threads and processes, each tried in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities there")


def printed(code: str, **environment: str) -> list[str]:
    preamble = """
        import os, threading
        from raykafka.priority import give_way, serve_first
        def nice(): return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    """
    program = textwrap.dedent(preamble) + textwrap.dedent(code)
    variables = {k: v for k, v in os.environ.items() if k != "RAY_worker_niceness"} | environment
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, check=True
    )
    return done.stdout.decode().split()


def test_a_thread_that_gives_way_leaves_the_others_as_they_are() -> None:
    first, second = printed("""
        before = nice()
        def run():
            give_way()
            print(nice() - before)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        print(nice() - before)
    """)
    assert int(first) > 0
    assert second == "0"


def test_a_server_takes_the_priority_of_what_started_it_where_that_is_allowed() -> None:
    allowed, *seen = printed("""
        go, tell = threading.Event(), threading.Event()
        os.nice(15)
        def run():
            tell.set()
            go.wait()
            print(nice())
        thread = threading.Thread(target=run)
        thread.start()
        tell.wait()
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice() - 1)
        except PermissionError:
            print("no", flush=True)
        else:
            print("yes", flush=True)
        serve_first()
        go.set()
        thread.join()
        print(nice())
    """)
    assert allowed in ("yes", "no")
    mine = os.getpriority(os.PRIO_PROCESS, os.getpid())
    expected = mine if allowed == "yes" else min(mine + 15, 19)
    assert set(seen) == {str(expected)}, "given to every thread"


def test_a_niceness_that_was_chosen_for_ray_is_kept() -> None:
    code = "os.nice(15); before = nice(); serve_first(); print(nice() - before)"
    assert printed(code, RAY_worker_niceness="15") == ["0"]
