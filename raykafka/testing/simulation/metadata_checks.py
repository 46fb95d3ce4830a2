"""What must hold of the controllers after every step: images are sound, only go forward, agree."""

from __future__ import annotations

from typing import Any, Final

from raykafka.controller.image import MetadataImage
from raykafka.controller.invariants import validate
from raykafka.testing.simulation.hosts import Process
from raykafka.testing.simulation.world import World

_REMEMBERED: Final = 200


class MetadataChecks:
    """Looks at the durable image of every controller."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._images: dict[int, MetadataImage] = {}
        """By the offset of the metadata log that they reflect; the newest of them."""

    def watch(self, process: Process) -> None:
        """Check the image of a new controller after each of its turns."""
        seen: list[MetadataImage] = []

        def look() -> None:
            parts = process.shell._parts
            if parts is not None and (not seen or seen[0] is not parts.shell.view):
                self._on_changed(process.name, parts.shell, seen[0] if seen else None)
                seen[:] = [parts.shell.view]

        process.loop.after_turn = look

    def _on_changed(self, name: str, shell: Any, before: MetadataImage | None) -> None:
        image, offset = shell.view, shell.view_offset
        try:
            validate(image)
        except AssertionError as error:
            self._fail(f"{name}: {error}")
        if before is not None:
            self._check_forward(name, before, image)
        known = self._images.get(offset)
        if known is None:
            self._images[offset] = image
            if len(self._images) > _REMEMBERED:
                del self._images[min(self._images)]
        elif known.topics != image.topics:
            self._fail(f"{name}: at offset {offset} of the metadata others have seen other topics")

    def _check_forward(self, name: str, before: MetadataImage, now: MetadataImage) -> None:
        """One that follows takes several records at a time."""
        for topic_id, topic in before.topics.items():
            if topic_id not in now.topics:
                continue
            for old, new in zip(topic.partitions, now.topics[topic_id].partitions, strict=False):
                was = (old.leader_epoch, old.partition_epoch)
                if (new.leader_epoch, new.partition_epoch) < was or new.partition_epoch < was[1]:
                    self._fail(f"{name}: {topic.name}: {old} became {new}")

    def _fail(self, what: str) -> None:
        self._world.violations.append(f"at {self._world.now:.6f} s: {what}")
