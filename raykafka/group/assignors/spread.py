"""The arithmetic that the assignors share: items are spread evenly over bins.

Each bin gets as many items as any other, or one more. Of all such results it is one with the fewest
moves: a bin keeps what it had up to its share, and the larger shares go to those that had the most.
What has to find a new place finds it near by, where there is room: on the same host, else in the
same rack.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)
Bin = TypeVar("Bin", bound=Hashable)
Place = tuple[str, str]
"""Host and rack; empty text for an unknown one."""


def distance(one: Place, other: Place) -> int:
    """0 on the same host, 1 in the same rack, else 2."""
    if one[0] and one[0] == other[0]:
        return 0
    return 1 if one[1] and one[1] == other[1] else 2


def spread(
    items: Mapping[Item, Place], bins: Mapping[Bin, Place], before: Mapping[Item, Bin]
) -> dict[Bin, list[Item]]:
    """Items of each bin; ``bins`` must not be empty. Ties go by the order of the mappings.

    ``before`` says where the items were; those it does not name are new.
    """
    base, larger_shares = divmod(len(items), len(bins))
    placed: dict[Bin, list[Item]] = {name: [] for name in bins}
    waiting: dict[Item, None] = {}
    for item in items:
        home = before.get(item)
        if home is not None and home in placed:
            placed[home].append(item)
        else:
            waiting[item] = None
    for name in sorted(bins, key=lambda name: -len(placed[name])):
        kept = placed[name]
        room = base
        if len(kept) > base and larger_shares:
            larger_shares -= 1
            room += 1
        if len(kept) > room:
            here = bins[name]
            kept.sort(key=lambda item: distance(items[item], here))
            waiting.update(dict.fromkeys(kept[room:]))
            placed[name] = kept[:room]
    left = [item for item in items if item in waiting]
    filling = _Filling(items, bins, placed, base, larger_shares)
    for near in (_host, _rack, _anywhere):
        for larger in (False, True):
            left = filling.fill(left, near, larger=larger)
    return placed


def _host(place: Place) -> str:
    return place[0]


def _rack(place: Place) -> str:
    return place[1]


def _anywhere(_place: Place) -> str:
    return "anywhere"


class _Filling(Generic[Item, Bin]):
    """Puts items that wait into bins that have room."""

    def __init__(
        self,
        items: Mapping[Item, Place],
        bins: Mapping[Bin, Place],
        placed: dict[Bin, list[Item]],
        base: int,
        larger_shares: int,
    ) -> None:
        self._items = items
        self._bins = bins
        self._placed = placed
        self._base = base
        self._larger_shares = larger_shares

    def fill(self, left: list[Item], near: Callable[[Place], str], *, larger: bool) -> list[Item]:
        """Those that found no place; ``larger`` lets bins have one more than the base share."""
        limit = self._base + larger
        heaps: dict[str, list[tuple[int, int, Bin]]] = defaultdict(list)
        for order, (name, place) in enumerate(self._bins.items()):
            if near(place) and len(self._placed[name]) < limit:
                heaps[near(place)].append((len(self._placed[name]), order, name))
        for heap in heaps.values():
            heapq.heapify(heap)
        still_left = []
        for item in left:
            heap = heaps.get(near(self._items[item]), [])
            if not heap or (larger and not self._larger_shares):
                still_left.append(item)
                continue
            load, order, name = heap[0]
            self._placed[name].append(item)
            if load >= self._base:
                self._larger_shares -= 1
            if load + 1 < limit:
                heapq.heapreplace(heap, (load + 1, order, name))
            else:
                heapq.heappop(heap)
        return still_left
