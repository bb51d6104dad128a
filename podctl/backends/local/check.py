"""What this machine can do for a local pod, tried for real, with what to type where it cannot."""

from __future__ import annotations

import asyncio
import base64
import os
import platform
import resource
import secrets
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from podctl.backends import seccomp
from podctl.backends.base import Finding
from podctl.backends.local import cgroups, postgres, sandbox
from podctl.backends.local.escape_level import ledger
from podctl.backends.local.execute import Capture
from podctl.backends.local.files import PodFiles
from podctl.backends.local.init_client import InitClient, Launch
from podctl.backends.local.records import RECORD_BYTES, recording
from podctl.backends.local.state import Owner, State
from podctl.errors import EnvironmentProblem, PodctlError

#: What a process here must be allowed to open, and a user to start: a PostgreSQL server alone needs 62 files and a dozen
#: processes.
LEAST_FILES, LEAST_PROCESSES = 256, 64

_USERNS_HELP = (
    "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; on Ubuntu 24.04 also "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; in a container run it with --security-opt seccomp=unconfined "
    "--security-opt systempaths=unconfined, or run podctl on the host"
)

_PTRACE_HELP = (
    "allow ptrace: kernel.yama.ptrace_scope below 3 (it needs a restart to be lowered); in a container --security-opt "
    "seccomp=unconfined, or a profile that allows ptrace"
)


async def findings(state: State) -> list[Finding]:
    found = [_python(), _platform(), _postgres(), _bubblewrap(), _seccomp(), _cgroups(), _disk(state), *_limits()]
    if sys.platform == "linux":
        if not _too_low():  # what can open no files can try nothing, nor remove what it tried
            found += await _sandbox(state)
        found.append(ledger(state).finding())
    return found


def _python() -> Finding:
    version = platform.python_version()
    state = "yes" if sys.version_info >= (3, 11) else "no"
    return Finding("python", state, version, "install Python 3.11 or later")  # type: ignore[arg-type]


def _platform() -> Finding:
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform != "linux":
        return Finding("linux", "no", kernel, "the local backend needs Linux: use a Linux machine or virtual machine")
    return Finding("linux", "yes", kernel)


def _postgres() -> Finding:
    try:
        programs = postgres.programs()
    except PodctlError as error:
        return Finding("postgresql", "no", error.cause, error.hint)
    return Finding("postgresql", "yes", f"{programs.version} ({programs.origin})")


def _bubblewrap() -> Finding:
    try:
        return Finding("bubblewrap", "yes", str(sandbox.bwrap_path()))
    except PodctlError as error:
        return Finding("bubblewrap", "no", error.what, error.hint)


def _seccomp() -> Finding:
    if seccomp.supported():
        return Finding("seccomp", "yes", f"a filter for {platform.machine()}")
    return Finding("seccomp", "no", f"no filter for {platform.machine()}", "use an x86_64 or aarch64 machine")


def _cgroups() -> Finding:
    kind = cgroups.version()
    if kind:
        return Finding("cgroups", "yes", f"version {kind}: memory, cpu and processes are limited for the whole tree")
    return Finding(
        "cgroups",
        "partly",
        "not writable: memory is limited by process (RLIMIT_AS), cpu is not limited",
        "run podctl as root, or in a delegated scope",
        required=False,
    )


def _disk(state: State) -> Finding:
    free = shutil.disk_usage(state.root).free
    enough = free > 2**30
    detail = f"{free / 2**30:.1f} GiB free in {state.root}"
    return Finding("disk", "yes" if enough else "no", detail, "free some disk, or set PODCTL_STATE to a larger one")


def _limits() -> list[Finding]:
    return [
        _limit("open files", resource.RLIMIT_NOFILE, LEAST_FILES, "ulimit -n 4096"),
        _limit("process limit", resource.RLIMIT_NPROC, LEAST_PROCESSES, "ulimit -u 4096"),
    ]


def _limit(name: str, number: int, least: int, typed: str) -> Finding:
    _, most = resource.getrlimit(number)
    enough = most == resource.RLIM_INFINITY or most >= least
    detail = "no limit" if most == resource.RLIM_INFINITY else f"at most {most}"
    return Finding(name, "yes" if enough else "no", detail, f"at least {least} are needed; where podctl is started: {typed}")


def _too_low() -> list[Finding]:
    return [finding for finding in _limits() if finding.state != "yes"]


def refuse_low_limits() -> None:
    """Raises `EnvironmentProblem` where not even a trusted agent's pod could be made, or removed again."""
    for found in _too_low():
        raise EnvironmentProblem(
            f"no pod can be made here: {found.name}: {found.detail}",
            code="limits-too-low",
            unchanged="nothing was made",
            hint=found.remedy,
        )


async def _sandbox(state: State) -> list[Finding]:
    """Make a pod without anything in it and run a program in its sandbox, its processes recorded."""
    pod = f"check-{secrets.token_hex(4)}"
    started = time.monotonic()
    record = state.create(
        pod, "doctor", owner=Owner.me(), now_ns=time.time_ns(), ttl_s=60, kept=False, own_uids=os.getuid() == 0
    )
    files = PodFiles(state.directory(pod))
    client = None
    try:
        files.lay_out("127.0.0.1 localhost\n")
        bound = {source: files.runtime_target(source, number) for number, source in enumerate(_runtime_paths())}
        client = await InitClient.start(
            pod, files.root, record.base_uid, [(str(a), str(b)) for a, b in [*bound.items(), *files.etc_binds()]]
        )
        await client.request("workspace", {"size": 1 << 20, "scratch": 1 << 20, "inodes": 100, "files": []})
        box = sandbox.Sandbox(str(files.etc), (), "/workspace", str(files.work), str(files.scratch))
        bwrap = sandbox.bwrap_path()
        for source, target in bound.items():
            if source in bwrap.parents:
                bwrap = target / bwrap.relative_to(source)
        launch = Launch(
            ["/bin/true"],
            "agent",
            "door",
            "/",
            {},
            {"CORE": 0},
            {
                "bwrap": str(bwrap),
                "arguments": sandbox.arguments(box),
                "seccomp": base64.b64encode(seccomp.program()).decode(),
            },
            record="wanted",
        )
        records = Capture(RECORD_BYTES)
        with open(files.logs / "check.log", "wb") as log, open("/dev/null", "rb") as null:
            try:
                streams = [null.fileno(), log.fileno(), log.fileno(), records.write_fd]
                ended = await client.ended(await client.spawn(launch, streams))
            finally:
                records.start()
        if ended.code != 0:
            said = (files.logs / "check.log").read_text(errors="replace").strip()
            return [Finding("sandbox", "no", said or f"exit {ended.code}", _USERNS_HELP)]
        took = (time.monotonic() - started) * 1000
        return [
            Finding("sandbox", "yes", f"namespaces and bubblewrap work ({took:.0f} ms)"),
            await _recorder(records),
        ]
    except (PodctlError, OSError, KeyError) as error:
        cause = error.cause if isinstance(error, PodctlError) else str(error)
        return [Finding("sandbox", "no", cause, _USERNS_HELP)]
    finally:
        if client is not None:
            client.close()
            while client.init is not None and client.init.alive():
                time.sleep(0.002)
        state.remove(pod)


async def _recorder(records: Capture) -> Finding:
    """Evidence, no isolation: its lack does not refuse an agent, unless the scenario says so."""
    with suppress(TimeoutError):
        await asyncio.wait_for(records.done.wait(), 5)
    records.close()
    try:
        found = recording(bytes(records.kept))
        why = found.refused or ("" if found.total == 1 else f"{found.total} processes seen of 1")
    except PodctlError as error:
        why = error.what
    if why:
        return Finding("processes", "partly", f"an attempt's processes are not recorded: {why}", _PTRACE_HELP, required=False)
    return Finding("processes", "yes", "every process of an attempt is recorded", required=False)


def _runtime_paths() -> list[Path]:
    paths = [path.resolve() for path in (*sandbox.interpreter_paths(), sandbox.bwrap_path())]
    return sandbox.minimal(path for path in paths if Path("/usr") not in path.parents)
