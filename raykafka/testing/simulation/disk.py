"""A machine's disk: what was synced survives a power cut, and it fails on command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from raykafka.errors import DiskFullError, InconsistentClusterIdError, LogDirLockedError
from raykafka.storage.api import Buffer
from raykafka.storage.disk_usage import DiskUsage
from raykafka.storage.log_directory import FORMAT_VERSION, META_FILE, LogDirectoryMeta
from raykafka.testing.memory_store import MemoryStore
from raykafka.testing.simulation.world import World

if TYPE_CHECKING:
    from raykafka.testing.simulation.hosts import Process

DISK_BYTES: Final = 1 << 40
_CLEAN: Final = ".clean-shutdown"


class SimulatedStore(MemoryStore):
    """The files below one directory of a disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk

    def append(self, path: str, data: Buffer) -> int:
        """See ``SegmentStore.append``."""
        self._disk.check_room(len(data))
        return super().append(path, data)

    def publish(self, path: str, data: Buffer, *, durable: bool = True) -> None:
        """See ``SegmentStore.publish``."""
        self._disk.check_room(len(data))
        super().publish(path, data, durable=durable)

    def paths(self) -> list[str]:
        """Every file there is."""
        return sorted(self._files)

    def lose(self, path: str) -> None:
        """The file is gone, behind everybody's back."""
        del self._files[path]


class Disk:
    """Stores and directories by their paths, and the locks on them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stores: dict[str, SimulatedStore] = {}
        self._locks: dict[str, Process] = {}
        self._locked_in: dict[str, int] = {}
        self._boot = 0
        self.full = False
        """Whether somebody else has filled it up."""
        self.flipped = False
        """Whether a bit was ever damaged."""
        self.slow_s = 0.0
        """How much longer each sync takes."""

    def store(self, path: str) -> SimulatedStore:
        """The store of the directory at ``path``; what is in it outlives its users."""
        if path not in self._stores:
            self._stores[path] = SimulatedStore(self)
        return self._stores[path]

    def stores(self) -> list[SimulatedStore]:
        """All of them, in the order in which they were made."""
        return list(self._stores.values())

    def usage(self, path: str) -> DiskUsage:
        """See ``raykafka.storage.disk_usage``."""
        return DiskUsage(DISK_BYTES, 0 if self.full else DISK_BYTES // 2)

    def check_room(self, size: int) -> None:
        """Raise ``DiskFullError`` where ``size`` bytes more do not fit."""
        if self.full:
            raise DiskFullError("the simulated disk is full; free space. Reads go on")

    # --- faults -----------------------------------------------------------------------------------

    def cut_power(self) -> None:
        """Forget what was not synced, but for what the page cache happened to have written."""
        draw = self._world.random
        self._boot += 1
        for store in self._stores.values():
            store.drop_unsynced(lambda _, size: draw.randint(0, size) if draw.random() < 0.5 else 0)

    def flip_bit(self) -> bool:
        """Damage one bit of one segment; False while there is none."""
        draw = self._world.random
        segments = [
            (store, path)
            for store in self._stores.values()
            for path in store.paths()
            if path.endswith(".arrow") and not path.startswith("__") and store.size(path)
        ]
        if not segments:
            return False
        store, path = draw.choice(segments)
        self.flipped = True
        store.corrupt(path, draw.randrange(store.size(path)), 1 << draw.randrange(8))
        return True

    def lose_file(self) -> bool:
        """Lose one segment; False while there is none."""
        segments = [
            (store, path)
            for store in self._stores.values()
            for path in store.paths()
            if path.endswith(".arrow") and not path.startswith("__")
        ]
        if not segments:
            return False
        store, path = self._world.random.choice(segments)
        store.lose(path)
        return True

    def replace(self) -> None:
        """An empty disk stands in the place of this one."""
        self._stores.clear()
        self._locked_in.clear()
        self.full = False

    # --- directories ------------------------------------------------------------------------------

    def lock(self, path: str, owner: Process) -> None:
        """Take the lock; ``LogDirLockedError`` while another process has it."""
        holder = self._locks.setdefault(path, owner)
        if holder is not owner:
            raise LogDirLockedError(f"log directory {path} is owned by process {holder.pid}")
        self._locked_in[path] = self._boot

    def lost_power(self, path: str) -> list[str]:
        """The locks of ``path`` and of its slots that were last taken before a power cut."""
        return [
            locked
            for locked, boot in self._locked_in.items()
            if boot != self._boot and (locked == path or locked.startswith(f"{path}-"))
        ]

    def unlock(self, path: str, owner: Process) -> None:
        """Give the lock back."""
        if self._locks.get(path) is owner:
            del self._locks[path]

    def release(self, owner: Process) -> None:
        """The process is dead: its locks are free."""
        self._locks = {path: each for path, each in self._locks.items() if each is not owner}


class SimulatedDirectory:
    """``LogDirectory`` on a simulated disk."""

    def __init__(self, process: Process, path: str, *, slot: int | None = None) -> None:
        self.path = path
        self.clean_shutdown = False
        self._process = process
        self._disk = process.host.disk
        self._suffix = "" if slot is None else f"-{slot}"
        self._locked = False
        self._intact = True

    def lock(self) -> None:
        """See ``LogDirectory.lock``."""
        if self._locked:
            return
        unsure = self._disk.lost_power(f"{self.path}{self._suffix}")
        self._disk.lock(f"{self.path}{self._suffix}", self._process)
        self._locked = True
        store, marker = self._store, _CLEAN + self._suffix
        self.clean_shutdown = marker in store.paths()
        if self.clean_shutdown:
            store.delete(marker)
        self._intact = self.clean_shutdown or f"{self.path}{self._suffix}" not in unsure

    def unlock(self, *, clean: bool = False) -> None:
        """See ``LogDirectory.unlock``."""
        if not self._locked:
            return
        if clean:
            self._store.publish(_CLEAN + self._suffix, b"")
        self._disk.unlock(f"{self.path}{self._suffix}", self._process)
        self._locked = False

    def is_intact(self) -> bool:
        """See ``LogDirectory.is_intact``."""
        unsure = [lock.removeprefix(self.path) for lock in self._disk.lost_power(self.path)]
        closed = self._store.paths()
        return self._intact and all(_CLEAN + suffix in closed for suffix in unsure)

    def claim(
        self, cluster_id: str, broker_id: int, incarnation: int = -1, directory_id: str = ""
    ) -> LogDirectoryMeta:
        """See ``LogDirectory.claim``."""
        meta = self.read_meta() or LogDirectoryMeta(FORMAT_VERSION, cluster_id, broker_id)
        if (meta.cluster_id, meta.broker_id) != (cluster_id, broker_id):
            raise InconsistentClusterIdError(
                f"log directory {self.path} belongs to broker {meta.broker_id} of cluster "
                f"{meta.cluster_id}, not to broker {broker_id} of {cluster_id}"
            )
        known = msgspec.structs.replace(meta, directory_id=meta.directory_id or directory_id)
        claimed = msgspec.structs.replace(known, incarnation=incarnation)
        self._store.publish(META_FILE, msgspec.json.encode(claimed))
        return known

    def read_meta(self) -> LogDirectoryMeta | None:
        """See ``LogDirectory.read_meta``."""
        content = self.read_private(META_FILE)
        return None if content is None else msgspec.json.decode(content, type=LogDirectoryMeta)

    def read_private(self, name: str) -> bytes | None:
        """See ``LogDirectory.read_private``."""
        store = self._store
        if name not in store.paths():
            return None
        return bytes(store.read(name, 0, store.size(name)))

    def write_private(self, name: str, content: bytes) -> None:
        """See ``LogDirectory.write_private``."""
        self._store.publish(name, content)

    @property
    def _store(self) -> SimulatedStore:
        return self._disk.store(self.path)
