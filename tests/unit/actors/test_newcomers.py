"""Which nodes wait before a broker is made for them."""

from __future__ import annotations

from raykafka.actors.controlling.newcomers import Newcomers
from raykafka.actors.ports import NodeInfo
from raykafka.controller.image import BrokerState, MetadataImage

HERE = "10.0.0.1"


def image(*node_ids: str) -> MetadataImage:
    brokers = {
        number: BrokerState(number, 1, node_id, HERE, "", 1, unfenced_incarnation=1)
        for number, node_id in enumerate(node_ids)
    }
    return MetadataImage(brokers=brokers)


def unheard(broker: BrokerState) -> tuple[str, int]:
    return broker.node_id, 0


def test_a_machine_that_came_back_waits_until_its_old_node_is_gone() -> None:
    newcomers = Newcomers()
    newcomers.note(["old", "new"], 100)
    assert newcomers.must_wait(NodeInfo("new", HERE), image("old"), 100, unheard)
    newcomers.note(["new"], 200)
    assert not newcomers.must_wait(NodeInfo("new", HERE), image("old"), 200, unheard)


def test_nodes_of_one_machine_do_not_wait_for_each_other() -> None:
    """A controller that has just started has heard of nobody yet."""
    newcomers = Newcomers()
    newcomers.note(["a", "b"], 100)
    for node_id in ("a", "b"):
        assert not newcomers.must_wait(NodeInfo(node_id, HERE), image("a", "b"), 100, unheard)
