"""Every kind of coordinator that a partition actor can host."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.actors.coordinating.groups import groups
from raykafka.actors.coordinating.kind import CoordinatorContext, ServiceKind
from raykafka.actors.coordinating.shares import shares
from raykafka.actors.coordinating.transactions import transactions


def service_kinds(context: CoordinatorContext) -> Sequence[ServiceKind]:
    """One for each internal topic."""
    return (groups(context), transactions(context), shares(context))
