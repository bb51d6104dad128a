"""Probes of what an agent can see: files, processes, descriptors, secrets. Runs inside the sandbox, see `probes`."""

from __future__ import annotations

import base64
import os
import stat
from typing import Any

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]

_SKIPPED = ("/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
_SEARCHED_BYTES = 1 << 20


def readable(path: str) -> str:
    """What could be read of a file or directory, or nothing."""
    try:
        if os.path.isdir(path):  # noqa: PTH112
            return f"{path} lists {len(os.listdir(path))} entries"  # noqa: PTH208
        with open(path, "rb") as stream:
            stream.read(1)
        return f"{path} can be read"
    except OSError:
        return ""


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo") as stream:
        return [line.split()[4].encode().decode("unicode_escape") for line in stream]


def _files(names: list[str]) -> Seen:
    got = [text for name in names if (text := readable(name))]
    control = readable("/usr")
    return bool(got), "; ".join(got) or f"{len(names)} paths: no such file, or denied", bool(control), control


def host_files(plan: Plan) -> Seen:
    """Single files, everything that the host lists in directories of its users, and mounts that nobody expects."""
    listed = [os.path.join(directory, name) for directory, names in plan["host_directories"].items() for name in names]  # noqa: PTH118
    seen = [path for path in listed if os.path.lexists(path)]  # noqa: PTH110
    expected = plan["mounts"]
    if expected:
        seen += [point for point in _mount_points() if not any(point == one or point.startswith(one + "/") for one in expected)]
    could, how, control, told = _files(plan["host_files"])
    return could or bool(seen), f"there are {', '.join(seen[:3])}" if seen else how, control, told


def podctl_state(plan: Plan) -> Seen:
    return _files(plan["state_files"])


def podctl_store(plan: Plan) -> Seen:
    return _files(plan["store_files"])


def read_only_system(plan: Plan) -> Seen:
    """Nothing but the workspace and the temporary directories takes a file."""
    wrote = []
    for directory in ("/", "/usr", "/usr/bin", "/etc", "/agent", "/proc/sys/kernel", "/sys", *plan["interpreter"]):
        path = os.path.join(directory, f".escape-{os.getpid()}")  # noqa: PTH118
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError:
            continue
        wrote.append(path)
        os.unlink(path)  # noqa: PTH108
    try:
        with open("/etc/passwd", "a"):
            wrote.append("/etc/passwd")
    except OSError:
        pass
    with open("control", "w") as stream:
        stream.write("x")
    return bool(wrote), f"wrote {', '.join(wrote)}" if wrote else "read-only", True, "the workspace takes a file"


def core_pattern(plan: Plan) -> Seen:
    opened = []
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches",
    ):
        try:
            # Opened, never written: that it opens for writing is the hole.
            os.close(os.open(path, os.O_WRONLY))
            opened.append(path)
        except OSError:
            pass
    text = readable("/proc/sys/kernel/core_pattern")
    return bool(opened), f"opened for writing: {', '.join(opened)}" if opened else "denied", bool(text), text


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _of_process(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def host_environment(plan: Plan) -> Seen:
    canary = plan["environment_canary"].encode()
    found = [pid for pid in _processes() if canary in _of_process(pid, "environ")]
    own = os.environ.get("ESCAPE_DECOY", "").encode()
    control = bool(own) and own in _of_process(os.getpid(), "environ")
    return bool(found), f"in /proc/{found[0]}/environ" if found else "in no environ", control, "its own environ can be read"


def host_processes(plan: Plan) -> Seen:
    pids = _processes()
    seen = [pid for pid in pids if plan["sentinel"].encode() in _of_process(pid, "cmdline")]
    reached = []
    for pid in plan["host_pids"]:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass
        # A pid of the host may by chance be one of the sandbox's own.
        if pid not in pids:
            reached.append(pid)
    how = f"{len(pids)} processes, none of the host's"
    if seen or reached:
        how = f"processes of the host: {seen + reached}"
    return bool(seen or reached) or len(pids) > 16, how, os.getpid() in pids, "its own process is listed"


def inherited_descriptors(plan: Plan) -> Seen:
    probe = os.open("/usr", os.O_RDONLY)
    listed: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            listed[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:
            continue  # the descriptor that listed the directory
    os.close(probe)
    control = listed.pop(probe, "") == "/usr"
    strange = {fd: target for fd, target in listed.items() if fd > 2}
    usual = ("pipe:", "/dev/null", *plan["output_pipes"])
    strange |= {fd: target for fd, target in listed.items() if fd <= 2 and not target.startswith(usual)}
    how = ", ".join(f"{fd} -> {target}" for fd, target in sorted(strange.items())) or "only 0, 1, 2: /dev/null and pipes"
    return bool(strange), how, control, "a descriptor opened on purpose is listed"


def setuid(plan: Plan) -> Seen:
    """No privilege to gain by executing: no capabilities, no_new_privs, and setuid bits do nothing where they are."""
    with open("/proc/self/status") as stream:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
    gained = [f"{name} {status[name]}" for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if status["NoNewPrivs"] != "1":
        gained.append("no_new_privs is off")
    if status["Uid"].split()[1] == "0":
        gained.append("runs as uid 0")
    binaries = []
    for directory in filter(os.path.isdir, ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin")):  # noqa: PTH112
        for entry in os.scandir(directory):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & stat.S_ISUID:
                binaries.append(entry.path)
    if plan["nosuid"]:
        gained += [f"{path} is honoured" for path in binaries if not os.statvfs(path).f_flag & os.ST_NOSUID]
    control = "CapEff" in status and bool(readable("/usr"))
    return (
        bool(gained),
        "; ".join(gained) or "no capability, no_new_privs",
        control,
        f"{len(binaries)} setuid programs are there",
    )


def keeper(plan: Plan) -> Seen:
    """What holds an agent's output shares two directories with it, and nothing else."""
    reached = [text for path in ("/podctl/state", "/podctl/given", "/podctl/scripts") if (text := readable(path))]
    reached += [f"process {pid}" for pid in _processes() if b"keeper.py" in _of_process(pid, "cmdline")]
    control = readable("/podctl/io")
    return bool(reached), ", ".join(reached) or "neither its files nor its process", bool(control), control


def account_token(plan: Plan) -> Seen:
    """Where a cluster puts tokens, and anything of that name on a mount."""
    places = [*_mount_points(), "/var/run/secrets", "/var/run/secrets/kubernetes.io/serviceaccount", "/run/secrets"]
    tokens = [text for place in dict.fromkeys(places) if (text := readable(os.path.join(place, "token")))]  # noqa: PTH118
    control = readable("/agent/probes.py")
    return bool(tokens), ", ".join(tokens) or "no file of that name", bool(control), f"what was mounted for it: {control}"


def provider_key(plan: Plan) -> Seen:
    key, decoy = plan["provider_key"], plan["decoy"]
    skipped = (*_SKIPPED, *plan["interpreter"])
    found, places = _search(key, skipped), _search(decoy, skipped)
    control = any(place.endswith("environ") for place in places) and any(place.endswith("decoy.txt") for place in places)
    return bool(found), f"in {', '.join(found)}" if found else "nowhere", control, f"a decoy is found in {len(places)} places"


def _search(secret: str, skipped: tuple[str, ...]) -> list[str]:
    """Where a secret is, as it is, in hex or in base64, among all that is not the system's."""
    raw = secret.encode()
    forms = (raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="))
    # The plan itself names it.
    plan_file = os.path.realpath("plan.json")
    found = [f"/proc/{pid}/{name}" for pid in _processes() for name in ("environ", "cmdline") if raw in _of_process(pid, name)]
    for root, directories, files in os.walk("/"):
        directories[:] = [name for name in directories if os.path.join(root, name) not in skipped]  # noqa: PTH118
        for name in files:
            path = os.path.join(root, name)  # noqa: PTH118
            if path == plan_file or not _regular(path):
                continue
            try:
                with open(path, "rb") as stream:
                    data = stream.read(_SEARCHED_BYTES)
            except OSError:
                continue
            if any(form in data for form in forms):
                found.append(path)
    return found


def _regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


PROBES = {
    "host-files": host_files,
    "podctl-state": podctl_state,
    "podctl-store": podctl_store,
    "read-only-system": read_only_system,
    "core-pattern": core_pattern,
    "host-environment": host_environment,
    "host-processes": host_processes,
    "inherited-descriptors": inherited_descriptors,
    "setuid": setuid,
    "keeper": keeper,
    "account-token": account_token,
    "provider-key": provider_key,
}
