"""Databases that were seeded once, for pods to copy."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.forwarded import ask
from podctl.backends.kubernetes.objects import orders_port
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.data.template import TemplateFacts
from podctl.spec.models import Database

#: Of a database on its server's disk. What is larger is seeded in each pod: podctl holds the copy in memory.
MOST_BYTES = 256 * 2**20
#: Ends the server, waits for it, and writes its directory to standard output.
_PACK = """\
pid=$(head -n 1 "$PGDATA/postmaster.pid"); kill -INT "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
exec python3 -I -S /podctl/scripts/copying.py out "$PGDATA"
"""
_LISTENS_S = 120.0


@dataclass(frozen=True)
class Prepared:
    """A stopped server's data directory, as an archive that podctl never unpacks; ``password`` is its superuser's."""

    database: Database
    archive: bytes
    password: str
    facts: TemplateFacts


async def pack(cluster: Cluster, namespace: str, pod: str, database: Database, password: str, facts: TemplateFacts) -> Prepared:
    """Stop the server, whose container outlives it, and take its directory. Raises `ClusterProblem`."""
    archive = await cluster.run(namespace, pod, "postgres", ["/bin/sh", "-c", _PACK], 2 * MOST_BYTES)
    return Prepared(database, archive, password, facts)


async def send(cluster: Cluster, namespace: str, pod: str, prepared: Prepared) -> None:
    """Have a server start from the copy. Raises `ClusterProblem`."""
    sent = struct.pack("!Q", len(prepared.archive)) + prepared.archive
    port = orders_port((prepared.database.port,))
    try:
        answer = await ask(cluster, namespace, pod, port, sent, _LISTENS_S, greeted=True)
    except OSError as error:
        raise ClusterProblem(f"{pod} could not be given its database", code="database-copy", cause=str(error)) from error
    if answer != b"done\n":
        raise ClusterProblem(f"{pod} did not take its database", code="database-copy", cause="its log says why")
