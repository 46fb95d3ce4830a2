"""Runs a workload on clients: A/B/A/B, warmed up, verified, written down."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bench.load import results
from bench.load.pacing import FIRST_RATE, RateSearch, is_sustained
from bench.load.results import Result
from bench.load.session import Backlog, Phase, Session
from bench.load.workload import Workload
from bench.measuring.environment import environment
from bench.measuring.verification import VoidRunError
from bench.measuring.worker import WorkerFailedError
from bench.peers import registry as all_peers
from bench.peers.api import Client, NotOfferedError, Options, Peer

MOST_BYTES = 2 * 2**30
"""Payload that producers and consumers of a run may keep in memory to verify it."""
PROBE_S = 2.0
"""How long a rate must hold to count as sustained."""
_WARM_SHARE = 0.2


class Registry(Protocol):
    """Knows peers and clients by name; ``bench.peers.registry`` is one."""

    def client(self, name: str) -> Client: ...

    def peer(self, name: str) -> Peer: ...


@dataclass(frozen=True)
class Settings:
    """What a workload file does not say."""

    copies: int = 1
    fsync: str = "none"
    acks: str = "all"
    batch: int = 10_000
    linger_ms: int = 5
    minutes: float | None = None
    """Instead of the workload's ``testDurationMinutes``; shortens its warm-up alike."""
    scale: float = 1.0
    """Of the workload's backlog."""
    apart: bool = False
    """Unlimited loads only: consumers begin when the producers are done, each measured alone."""


class Servers:
    """The peers that run; each is started when it is first needed and stopped at the end."""

    def __init__(self, registry: Registry, folder: Path | None = None) -> None:
        self._registry = registry
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=folder))
        self._running: dict[str, tuple[int, Peer]] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self._stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def running(self, name: str, copies: int) -> Peer:
        """The peer, able to keep so many copies. Raises ``NotOfferedError``."""
        found = self._running.get(name)
        if found is not None and found[0] >= copies and (copies > 1) == (found[0] > 1):
            return found[1]
        peer = self._registry.peer(name)
        missing = peer.missing()
        if missing is not None:
            raise NotOfferedError(missing)
        if copies > peer.largest_copies:
            raise NotOfferedError(f"{name} keeps no {copies} copies here: not landed")
        self._stop(name)
        folder = self.folder / f"{name}-{copies}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            peer.start(folder, copies)
        except BaseException:
            peer.stop()
            raise
        self._running[name] = (copies, peer)
        return peer

    def beside(self, name: str) -> list[str]:
        """Others that run, idle."""
        return [other for other in self._running if other != name]

    def _stop(self, name: str) -> None:
        copies, peer = self._running.pop(name, (0, None))
        if peer is not None:
            peer.stop()
            shutil.rmtree(self.folder / f"{name}-{copies}", ignore_errors=True)


def default_registry() -> Registry:
    """Every peer and client there is."""
    return all_peers


def run_workload(
    workload: Workload,
    clients: Sequence[str],
    out_dir: Path,
    settings: Settings | None = None,
    *,
    runs: int = 1,
    first: int = 1,
    registry: Registry | None = None,
    servers: Servers | None = None,
    labels: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = print,
    done: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Run it ``runs`` times on every client in turn; one JSON file per run in ``out_dir``.

    ``first`` numbers the runs, ``labels`` are added to each result, ``tell`` hears what begins
    and ``done`` that a run is over.

    A client or a system that cannot do it yields a result whose ``missing`` says why, a run whose
    records were not all there once and in order one whose ``void`` does.
    """
    settings = settings or Settings()
    registry = registry or default_registry()
    found: list[Result] = []
    with contextlib.nullcontext(servers) if servers else Servers(registry) as running:
        for run in range(first, first + runs):
            for name in clients:
                tell(f"{workload.name}: {name}, run {run}")
                result = run_once(workload, registry.client(name), settings, running)
                result |= labels or {}
                results.save(result, out_dir, f"{workload.name}-{name}-{run}")
                found.append(result)
                done()
    return found


def run_once(workload: Workload, client: Client, settings: Settings, servers: Servers) -> Result:
    """One run of one client."""
    result = results.head(workload, client.name, "")
    planned, notes = fitted(workload, settings)
    result["settings"] = asdict(settings)
    result["overrides"] = notes
    try:
        lacking = client.missing()
        if lacking is not None:
            raise NotOfferedError(lacking)
        peer = servers.running(client.peer, settings.copies)
        result["version"] = peer.version()
        result["environment"] = {
            **environment(servers.folder),
            "idle_beside": ", ".join(servers.beside(client.peer)) or "nothing",
        }
        result |= _measure(planned, client, peer, settings, servers.folder)
    except NotOfferedError as error:
        result["missing"] = str(error)
    except VoidRunError as error:
        result["void"] = str(error)
    except WorkerFailedError as error:
        last = str(error).strip().splitlines()[-1]
        refused = "NotOfferedError" in last
        result["missing" if refused else "void"] = last.partition(": ")[2] if refused else last
    except TimeoutError as error:
        result["void"] = str(error)
    return result


def fitted(workload: Workload, settings: Settings) -> tuple[Workload, list[str]]:
    """The workload as it can be run here, and what was changed for that."""
    changes: dict[str, float] = {}
    if settings.minutes is not None:
        changes["testDurationMinutes"] = settings.minutes
        changes["warmupDurationMinutes"] = min(
            workload.warmupDurationMinutes, settings.minutes * _WARM_SHARE
        )
    if workload.consumerBacklogSizeGB:
        most = MOST_BYTES / 2**30 / 2
        wanted = workload.consumerBacklogSizeGB * settings.scale
        changes["consumerBacklogSizeGB"] = min(most, wanted)
    elif workload.producerRate > 0 and not workload.unlimited:
        minutes = changes.get("testDurationMinutes", workload.testDurationMinutes)
        per_minute = workload.producerRate * 60 * workload.messageSize
        most = MOST_BYTES / (per_minute * (1 + workload.subscriptionsPerTopic))
        changes["testDurationMinutes"] = min(minutes, most)
    changed = replace(workload, **changes)  # type: ignore[arg-type]
    notes = [
        f"{name}: {getattr(workload, name):g} in the file, {value:g} here"
        for name, value in changes.items()
        if value != getattr(workload, name)
    ]
    return changed, notes


def _measure(
    workload: Workload, client: Client, peer: Peer, settings: Settings, folder: Path
) -> Result:
    options = Options(acks=settings.acks, batch=settings.batch, linger_ms=settings.linger_ms)
    with Session(client, peer, workload, options, folder) as session:
        if workload.unlimited:
            phase, extra = _unlimited(session, workload, settings)
        elif workload.keyed:
            raise NotOfferedError(
                "a paced load cannot be keyed: ProducerDriver.send takes no key; "
                f"use a producerRate of 10,000,000 or more for {workload.keyDistributor}"
            )
        else:
            session.connect(settings.copies, settings.fsync)
            phase, extra = _paced(session, workload)
        return {**results.measured(phase, workload.subscriptionsPerTopic), **extra}


def _unlimited(session: Session, workload: Workload, settings: Settings) -> tuple[Phase, Result]:
    """As many records as the producers alone would send in the time; that is also the warm-up."""
    session.connect(settings.copies, settings.fsync, read=False)
    rate = session.calibrate()
    session.disconnect()
    wanted = round(rate * workload.testDurationMinutes * 60)
    most = MOST_BYTES // (workload.messageSize * (1 + workload.subscriptionsPerTopic))
    producers = workload.topics * workload.producersPerTopic
    count = max(producers, min(wanted, most))
    session.connect(settings.copies, settings.fsync, read=not settings.apart)
    phase = session.unlimited(count, apart=settings.apart)
    extra: Result = {"calibratedRate": rate}
    if count < wanted:
        extra["shortened"] = f"{count} records instead of {wanted}, to keep them in memory"
    return phase, extra


def _paced(session: Session, workload: Workload) -> tuple[Phase, Result]:
    rate, extra = float(workload.producerRate), {}
    warm_up_s = workload.warmupDurationMinutes * 60
    if warm_up_s:
        _sound(session.paced(rate or FIRST_RATE, warm_up_s), "the warm-up")
    if not rate:
        rate = find_rate(session)
        extra["foundRate"] = rate
        if not rate:
            raise VoidRunError("no rate was sustained, not even the lowest that was tried")
    backlog = _backlog(workload) if workload.consumerBacklogSizeGB else None
    seconds = workload.testDurationMinutes * 60
    if not workload.producerRate:
        per_second = rate * workload.messageSize * (1 + workload.subscriptionsPerTopic)
        seconds = min(seconds, MOST_BYTES / per_second)
    return session.paced(rate, seconds, backlog), extra


def _backlog(workload: Workload) -> Backlog:
    """Sizes as OMB works them out; it takes a thousand records for as good as none."""
    records = round(workload.consumerBacklogSizeGB * 2**30 / workload.messageSize)
    empty = max(1000, round((1 - workload.backlogDrainRatio) * records))
    build_s = records / workload.subscriptionsPerTopic / workload.producerRate
    return Backlog(records, empty, most_s=2 * build_s + 30)


def find_rate(session: Session) -> float:
    """The highest rate that held for ``PROBE_S``; 0 if none did."""
    search = RateSearch()
    while not search.done:
        phase = session.paced(search.rate, PROBE_S)
        _sound(phase, f"the probe of {search.rate:,.0f}/s")
        achieved = (phase.planned - phase.late - phase.unread) / PROBE_S
        search.tell(
            sustained=is_sustained(search.rate, phase.late, phase.unread), achieved=achieved
        )
    return search.best


def _sound(phase: Phase, what: str) -> None:
    if phase.void:
        raise VoidRunError(f"{what}: {phase.void}")
