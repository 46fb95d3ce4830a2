"""A Ray that outlives the command that started it, for ``raykafka up`` where no Ray runs.

``ray start --block`` is kept as a process group of its own: ending that process ends its Ray and no
other, which ``ray stop`` cannot promise.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from raykafka.errors import ClusterUnreachableError
from raykafka.places import home

_START_S = 60.0
_STOP_S = 20.0
_POLL_S = 0.2


class _RayHead(msgspec.Struct):
    pid: int
    address: str = ""
    address_file: str = ""
    """Where Ray noted ``address``, and leaves it when it ends."""


def ensure_ray() -> bool:
    """Join the Ray that runs here or start one that stays; True if it had to be started.

    Raises ``ClusterUnreachableError`` with the end of Ray's own words when it does not start.
    """
    runtime = importlib.import_module("raykafka.ray_runtime")  # loads Ray
    if runtime.join_ray():
        return False
    log = _state_file().with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0",
        "--include-dashboard=false", "--disable-usage-stats",
        '--resources={"raykafka-loopback": 1}',
    ]  # fmt: skip
    noted = Path(runtime.ray_address_file())
    before = _text_of(noted)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _state_file().write_bytes(msgspec.json.encode(_RayHead(process.pid)))
    waiting = threading.Event()
    for _ in range(int(_START_S / _POLL_S)):
        if runtime.join_ray():
            _remember(process.pid, noted)
            return True
        if process.poll() is not None:
            break
        waiting.wait(_POLL_S)
    if _text_of(noted) != before:
        _remember(process.pid, noted)
    stop_ray()
    words = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise ClusterUnreachableError(
        f"Ray did not start; {log} says: {' / '.join(words) or 'nothing'}"
    )


def stop_ray() -> bool:
    """End the Ray that ``ensure_ray`` started, if it still runs; True if it did."""
    head = _running_head()
    with contextlib.suppress(FileNotFoundError):
        _state_file().unlink()
    if head is None:
        return False
    os.kill(head.pid, signal.SIGTERM)
    waiting = threading.Event()
    for _ in range(int(_STOP_S / _POLL_S)):
        if not _is_head(head.pid):
            break
        waiting.wait(_POLL_S)
    else:
        os.killpg(head.pid, signal.SIGKILL)
    _forget_address(head)
    return True


def started_ray() -> bool:
    """Whether a Ray that ``ensure_ray`` started still runs."""
    return _running_head() is not None


def _remember(pid: int, address_file: Path) -> None:
    head = _RayHead(pid, _text_of(address_file), str(address_file))
    _state_file().write_bytes(msgspec.json.encode(head))


def _forget_address(head: _RayHead) -> None:
    # Programs that look for a Ray would try for minutes to reach the one that has ended.
    if head.address and _text_of(Path(head.address_file)) == head.address:
        with contextlib.suppress(FileNotFoundError):
            Path(head.address_file).unlink()


def _text_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _state_file() -> Path:
    return Path(home()) / "ray.json"


def _running_head() -> _RayHead | None:
    try:
        head = msgspec.json.decode(_state_file().read_bytes(), type=_RayHead)
    except (OSError, msgspec.MsgspecError):
        return None
    return head if _is_head(head.pid) else None


def _is_head(pid: int) -> bool:
    """Process ids are used again, so the command is compared too."""
    listed = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "ray.scripts.scripts start --head --block" in listed.stdout
