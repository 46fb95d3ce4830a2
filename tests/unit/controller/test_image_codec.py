"""The image in a snapshot is the image that was written, and a later format is refused."""

from __future__ import annotations

import msgspec
import pytest
from controller_kit import Cluster

from raykafka.controller.image import MetadataImage
from raykafka.controller.image_codec import decode_image, encode_image
from raykafka.controller.invariants import validate
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.errors import LogDamagedError, UnsupportedVersionError


def test_an_image_survives() -> None:
    cluster = Cluster.started(brokers=3, slots=2)
    cluster.create("orders", 4, 3, min_insync_replicas="2")
    cluster.lose(0)
    for image in (MetadataImage(), cluster.image):
        again = decode_image(encode_image(image))
        assert again == image
        validate(again)
    machine = ClusterMetadataMachine(Settings({}))
    machine.restore(machine.encode_view(cluster.image))
    assert machine.view() == cluster.image


def test_what_is_not_an_image_is_refused() -> None:
    later = msgspec.msgpack.decode(encode_image(MetadataImage()))
    later["format_version"] = 2
    with pytest.raises(UnsupportedVersionError, match="upgrade raykafka"):
        decode_image(msgspec.msgpack.encode(later))
    for data in (b"", b"\xc1", b"\x81\xa1x\x01"):
        with pytest.raises(LogDamagedError):
            decode_image(data)
