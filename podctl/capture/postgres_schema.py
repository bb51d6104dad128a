"""The definition of a PostgreSQL source as two scripts, by PostgreSQL's own pg_dump in the capture's snapshot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podctl.capture.postgres_catalog import Catalog
from podctl.capture.postgres_session import Address
from podctl.capture.problems import CaptureProblem

#: What belongs to a server, its users or its network, and would not work, or would tell secrets, in a copy.
_NOT_MIRRORED = {
    "EVENT TRIGGER": "would fire on what podctl itself does to the copy",
    "PUBLICATION": "the copy replicates to nobody",
    "PUBLICATION TABLE": "",
    "PUBLICATION TABLES IN SCHEMA": "",
    "SUBSCRIPTION": "the copy replicates from nobody",
    "USER MAPPING": "holds passwords of other servers",
    "SERVER": "leads to another server",
    "FOREIGN TABLE": "its rows are another server's",
}
_ENTRY = re.compile(r"^\d+; \d+ (\d+) (.+)$")
#: What a server sets of columns; some of 15 keep a mark of their own there, which no other server knows.
_COLUMN_OPTIONS = re.compile(r"^(ALTER TABLE ONLY .+ ALTER COLUMN .+ SET \()([^)]*)(\);\n)", re.MULTILINE)
#: Bounds of pg_dump's own session, which a server older than pg_dump need not know. podctl's sessions have none.
_TIMEOUTS = re.compile(r"^SET \w+_timeout = 0;$\n?", re.MULTILINE)
_RESTRICT = re.compile(r"^\\(?:un)?restrict .*\n", re.MULTILINE)


@dataclass(frozen=True)
class DumpPrograms:
    """Where a pg_dump and its pg_restore are, and of which major version."""

    directory: Path
    major: int


def dump(
    programs: DumpPrograms, where: Address, catalog: Catalog, snapshot: str, directory: Path, *, left_out: Collection[str], dropped: Collection[int],
    extensions: Collection[str], server: int, lock_timeout: float, timeout: float,
) -> tuple[str, str, dict[str, str]]:  # fmt: skip
    """``(before, after, not mirrored)``: what to run before and after the rows, and what the copy has not -> why.

    ``dropped`` are oids of references that lead to tables left out; ``server`` is the source's version as a number.
    Raises `CaptureProblem`; what is written to ``directory`` on the way holds no rows.
    """
    binaries = able(programs, server // 10_000)
    archive = directory / "schema.dump"
    tables = [catalog.schema.tables[name] for name in left_out]
    command = [
        str(binaries / "pg_dump"), "--format=custom", "--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces",
        "--no-security-labels", "--no-policies", "--no-subscriptions", "--no-publications", "--no-password", "--encoding=UTF8",
        f"--snapshot={snapshot}", f"--lock-wait-timeout={int(lock_timeout * 1000)}", f"--file={archive}",
        *(f"--exclude-table={_quoted(table.schema)}.{_quoted(table.name)}" for table in tables),
        f"--dbname={where.conninfo}",
    ]  # fmt: skip
    with _password_file(where) as (environment, fds):
        _run(command, timeout, environment, fds)
    listed = _run([str(binaries / "pg_restore"), "--list", str(archive)], timeout)
    kept, gone = _sort(listed.splitlines(), set(dropped), set(extensions))
    chosen = directory / "schema.list"
    chosen.write_text("\n".join(kept) + "\n")
    parts = []
    for section in ("pre-data", "post-data"):
        script = _run(
            [str(binaries / "pg_restore"), f"--section={section}", f"--use-list={chosen}", "--no-owner", "--no-privileges", "--file=-", str(archive)],
            timeout,
        )  # fmt: skip
        header, first, rest = script.partition("\nSET client_encoding")
        script = _TIMEOUTS.sub("", header) + first + rest
        parts.append(_COLUMN_OPTIONS.sub(_portable, _RESTRICT.sub("", script)))
    archive.unlink()
    chosen.unlink()
    return parts[0], parts[1], gone


def _portable(match: re.Match[str]) -> str:
    kept = [option for option in match[2].split(", ") if not option.startswith("pg_attver=")]
    return f"{match[1]}{', '.join(kept)}{match[3]}" if kept else ""


def _sort(entries: Sequence[str], dropped: set[int], extensions: set[str]) -> tuple[list[str], dict[str, str]]:
    kept: list[str] = []
    gone: dict[str, str] = {}
    for line in entries:
        match = _ENTRY.match(line)
        if match is None:
            continue
        what = match[2]
        kind = next((kind for kind in _NOT_MIRRORED if what.startswith(kind + " ")), None)
        extension = re.match(r"(?:COMMENT - )?EXTENSION - (\S+)", what) or re.match(r"COMMENT - EXTENSION (\S+)", what)
        if kind:
            if _NOT_MIRRORED[kind]:
                gone[_named(what)] = _NOT_MIRRORED[kind]
        elif extension and extension[1].strip('"') in extensions:
            gone[f"EXTENSION {extension[1]}"] = "leave_out_extensions names it"
        elif int(match[1]) in dropped:
            gone[_named(what)] = "it leads to a table that is left out"
        else:
            kept.append(line)
    return kept, gone


def _named(what: str) -> str:
    """Without the owner, which ends a line of the list."""
    return what.rsplit(" ", 1)[0]


def able(ours: DumpPrograms, server: int) -> Path:
    """Where a pg_dump is that can read a server of this major version. Raises `CaptureProblem`."""
    if ours.major >= server and (ours.directory / "pg_dump").exists():
        return ours.directory
    found = shutil.which("pg_dump")
    if found is not None:
        number = re.search(r"\d+", _run([found, "--version"], 20))
        if number and int(number[0]) >= server:
            return Path(found).resolve().parent
    raise CaptureProblem(
        f"the source is PostgreSQL {server}, and the newest pg_dump here is of {ours.major}",
        code="capture-newer-server",
        cause="pg_dump reads servers of its own version and older ones",
        unchanged="nothing was made",
        hint=f"install postgresql-client-{server}: a pg_dump on PATH is used when it is new enough",
    )


@contextmanager
def _password_file(where: Address) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """The password for a child, in memory that only it gets: neither in arguments nor in the environment nor on a disk."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("PG") or name in ("PATH", "HOME")}
    if where.password is None:
        yield environment, ()
        return
    escaped = where.password.replace("\\", "\\\\").replace(":", "\\:")
    fd = os.memfd_create("pgpass")
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, f"*:*:*:*:{escaped}\n".encode())
        yield {**environment, "PGPASSFILE": f"/dev/fd/{fd}"}, (fd,)
    finally:
        os.close(fd)


def _run(command: Sequence[str], timeout: float, environment: dict[str, str] | None = None, fds: tuple[int, ...] = ()) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout, env=environment, pass_fds=fds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise CaptureProblem(
            f"{name} took longer than {timeout:.0f} s", code="capture-timeout", hint="raise source.statement_timeout"
        ) from error
    except OSError as error:
        raise CaptureProblem(f"{name} could not be started", code="capture-pg-dump", cause=str(error)) from error
    text, said = done.stdout, done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise CaptureProblem(
                "the source's definition is not UTF-8", code="capture-encoding", cause=f"{name}: {error}"
            ) from error
    code = "capture-locked" if "lock timeout" in said or "could not obtain lock" in said else "capture-schema"
    lines = [line for line in said.splitlines() if line.strip()]
    raise CaptureProblem(
        "the source's definition could not be read",
        code=code,
        cause=" ".join(lines[:3])[:600],
        unchanged="nothing was made",
        hint="wait for the lock, or raise source.lock_timeout" if code == "capture-locked" else "",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
