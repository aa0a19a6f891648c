"""A real Redis Cluster for tests: primaries on the loopback, each in a directory of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_server import RedisServer, free_port

SLOTS = 16_384
OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
    *("--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"),
)


class RedisCluster:
    """Primaries that share the slots evenly; each keeps its own when others are down."""

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        options: tuple[str, ...] = (),
        *,
        tls: bool = False,
    ) -> None:
        """With `tls` the nodes speak nothing else, to each other too."""
        self._tls = tls
        self._buses = [free_port() for _ in range(nodes)]
        self.nodes = [
            _node(directory / str(number), "--cluster-port", str(bus), *options, tls=tls)
            for number, bus in enumerate(self._buses)
        ]

    def url(self, prefix: str = "rivet") -> str:
        seeds = ",".join(node.address for node in self.nodes)
        return f"redis{'s' if self._tls else ''}+cluster://{seeds}?prefix={prefix}"

    def start(self) -> RedisCluster:
        for node in self.nodes:
            node.start()
        share = -(-SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            last = min(SLOTS, (number + 1) * share) - 1
            self.tell(node, "CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last))
            self.tell(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node, bus in list(zip(self.nodes, self._buses, strict=True))[1:]:
            self.tell(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        self.wait_until_whole()
        return self

    def add_replica(self, of: int) -> RedisServer:
        """One more node, which takes over when that one dies."""
        bus = free_port()
        directory = self.nodes[0].directory.parent / "replica"
        replica = _node(directory, "--cluster-port", str(bus), tls=self._tls).start()
        primary = self.tell(self.nodes[of], "CLUSTER", "MYID")
        self.tell(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(replica.port), str(bus))
        self.nodes.append(replica)
        self.wait_until_whole()
        self.tell(replica, "CLUSTER", "REPLICATE", primary)
        end = time.monotonic() + 10
        while "master_link_status:up" not in self.tell(replica, "INFO", "replication"):
            if time.monotonic() > end:
                pytest.fail("the replica does not follow")
            time.sleep(0.02)
        return replica

    def wait_until_whole(self) -> None:
        """Until each node knows the owner of every slot, and of every other that it is up."""
        end = time.monotonic() + 15
        for node in self.nodes:
            while True:
                info = self.tell(node, "CLUSTER", "INFO").splitlines()
                if (
                    "cluster_state:ok" in info
                    and f"cluster_slots_ok:{SLOTS}" in info
                    and f"cluster_known_nodes:{len(self.nodes)}" in info
                ):
                    break
                if time.monotonic() > end:
                    pytest.fail(f"the cluster of Redis does not come together: {info}")
                time.sleep(0.02)

    def tell(self, node: RedisServer, *command: str) -> str:
        answer = subprocess.run(
            ["redis-cli", *self._tls_options(), "-p", str(node.port), *command],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
        if answer.startswith(("ERR", "(error)")):
            pytest.fail(f"{' '.join(command)}: {answer}")
        return answer

    def _tls_options(self) -> list[str]:
        return ["--tls", "--insecure"] if self._tls else []

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _node(directory: Path, *options: str, tls: bool) -> RedisServer:
    directory.mkdir(parents=True)
    bus = ("--tls-cluster", "yes") if tls else ()
    return RedisServer(directory, *OPTIONS, *bus, *options, tls=tls)


@contextmanager
def running(cluster: RedisCluster) -> Iterator[RedisCluster]:
    try:
        yield cluster.start()
    finally:
        cluster.stop()
