"""How a client finds its cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raykafka.model import Endpoint


@dataclass(frozen=True, slots=True)
class BootstrapInfo:
    """Everything a client must know to take up contact."""

    cluster_id: str
    """Empty accepts whatever cluster answers first, and only that one from then on."""
    cluster_name: str
    controller: Endpoint
    """Who is asked first: the active controller, as far as that is known."""
    secret: bytes = field(repr=False)
    controllers: tuple[Endpoint, ...] = ()
    """Every voter: whoever is active is one of them."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them, in the order in which they are tried."""
        others = (each for each in self.controllers if each != self.controller)
        return (self.controller, *others)


Bootstrap = Callable[[], BootstrapInfo]
"""Looks the controller up each time it is called; picklable, so that handles may travel. Clients
call it again whenever the controller they knew is gone."""


@dataclass(frozen=True, slots=True)
class StaticBootstrap:
    """A ``Bootstrap`` whose answer never changes: the address is known and stays."""

    info: BootstrapInfo

    def __call__(self) -> BootstrapInfo:
        return self.info
