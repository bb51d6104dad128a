"""A PostgreSQL server in a container: how it is started, and the files it is started with. PURE."""

from __future__ import annotations

from collections.abc import Mapping

from podctl.approvals.rows import APPROVED_ROLE
from podctl.data.settings import settings_for

#: podctl's sessions arrive from the server's own loopback: nobody else's login as superuser, or as who writes what was approved, is even tried.
HBA = f"""\
local all all reject
host all postgres,{APPROVED_ROLE} 127.0.0.0/8 scram-sha-256
host all postgres,{APPROVED_ROLE} ::1/128 scram-sha-256
host all postgres,{APPROVED_ROLE} all reject
host replication all all reject
host all all all scram-sha-256
"""
#: With PODCTL_COPY_PORT the data directory comes from outside, with PODCTL_STAY the container outlives its server.
START = """\
set -eu
bin=$(dirname "$(command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)")
if [ -n "${PODCTL_COPY_PORT:-}" ]; then
  python3 -I -S /podctl/scripts/copying.py in "$PODCTL_COPY_PORT" "$PGDATA"
elif [ ! -s "$PGDATA/PG_VERSION" ]; then
  locale=C.UTF-8; locale -a 2>/dev/null | grep -qi '^C.utf-\\?8$' || locale=C
  "$bin/initdb" -D "$PGDATA" -U postgres --pwfile /podctl/secret/password --no-sync --no-instructions --wal-segsize=1 \\
    --encoding=UTF8 --locale=$locale --auth=scram-sha-256
  cp /podctl/server/pg_hba.conf "$PGDATA/pg_hba.conf"
  cat /podctl/server/postgresql.conf >>"$PGDATA/postgresql.conf"
  [ "$(cat "$PGDATA/PG_VERSION")" -lt 18 ] || cat /podctl/server/postgresql-18.conf >>"$PGDATA/postgresql.conf"
fi
[ -z "${PODCTL_STAY:-}" ] || { "$bin/postgres" -D "$PGDATA"; exec sleep 3600; }
exec "$bin/postgres" -D "$PGDATA"
"""


def server_files(port: int, uid: int) -> dict[str, bytes]:
    """What `START` finds in /podctl/server, and the /etc/passwd that makes ``uid`` known."""
    base, newest = settings_for(15), settings_for(18)
    own = {"listen_addresses": "*", "port": str(port), "unix_socket_directories": "/tmp"}
    return {
        "postgresql.conf": _settings_text({**base, **own}),
        "postgresql-18.conf": _settings_text({key: value for key, value in newest.items() if key not in base}),
        "pg_hba.conf": HBA.encode(),
        "passwd": passwd(uid),
    }


def passwd(uid: int) -> bytes:
    return f"postgres:x:{uid}:{uid}::/tmp:/bin/sh\n".encode()


def _settings_text(settings: Mapping[str, str]) -> bytes:
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items()).encode()
