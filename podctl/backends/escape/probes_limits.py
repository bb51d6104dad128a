"""Programs that try to take more than their share, run inside the sandbox: ``python probes_limits.py MODE [ARGUMENT...]``.

What they got they say on standard output, a JSON object a line, because most of them are ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

_MEBIBYTE = 1 << 20


def say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def fork(wanted: str) -> None:
    """As many processes as are to be had, up to ``wanted``."""
    children: list[int] = []
    refusal = ""
    while len(children) < int(wanted) and not refusal:
        try:
            pid = os.fork()
        except OSError as error:
            refusal = error.strerror or "refused"
            break
        if pid == 0:
            signal.pause()
        children.append(pid)
    say(forked=len(children), refusal=refusal)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def writable_mounts() -> list[str]:
    """Mount points where this process can make a file."""
    with open("/proc/self/mountinfo") as stream:
        points = [line.split()[4].encode().decode("unicode_escape") for line in stream]
    found = []
    for point in dict.fromkeys([*points, "/tmp", "/var/tmp", "/workspace", "/dev/shm", "/run"]):
        path = os.path.join(point, ".escape")  # noqa: PTH118
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            os.unlink(path)  # noqa: PTH108
        except OSError:
            continue
        found.append(point)
    return found


def fill(bytes_wanted: str, files_wanted: str) -> None:
    """Bytes, then empty files, in every mount that takes them."""
    for point in writable_mounts():
        written, refusal = _write(point, int(bytes_wanted))
        files, files_refusal = _litter(point, int(files_wanted))
        say(mount=point, written=written, refusal=refusal, files=files, files_refusal=files_refusal)


def _write(point: str, wanted: int) -> tuple[int, str]:
    block, written, number, refusal = bytes(_MEBIBYTE), 0, 0, ""
    made = []
    while written < wanted and not refusal:
        made.append(os.path.join(point, f"fill-{number}"))  # noqa: PTH118
        number += 1
        started = written
        try:
            with open(made[-1], "wb", buffering=0) as stream:
                while written < wanted:
                    written += stream.write(block)
        except OSError as error:
            # A file's own limit is met first where there is one; the next file goes on.
            refusal = "" if written > started else error.strerror or "refused"
    for path in made:
        if os.path.exists(path):  # noqa: PTH110
            os.unlink(path)  # noqa: PTH108
    return written, refusal


def _litter(point: str, wanted: int) -> tuple[int, str]:
    directory = os.path.join(point, "litter")  # noqa: PTH118
    made, refusal = 0, ""
    try:
        os.mkdir(directory)  # noqa: PTH102
        while made < wanted:
            os.close(os.open(f"{directory}/{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as error:
        refusal = error.strerror or "refused"
    for number in range(made):
        os.unlink(f"{directory}/{number}")  # noqa: PTH108
    return made, refusal


def memory(wanted: str, processes: str) -> None:
    """``wanted`` MiB in each of so many processes, touched and held."""
    children = _children(int(processes) - 1)
    held = []
    for total in range(8, int(wanted) + 1, 8):
        try:
            held.append(bytearray(b"x") * (8 * _MEBIBYTE))
        except MemoryError:
            say(refused_at=total)
            break
        say(held=total)
    time.sleep(0.5)
    say(kept=8 * len(held))
    _wait(children)


def _children(number: int) -> list[int]:
    """So many processes beside this one that go on from here; for each of them itself there are none."""
    made: list[int] = []
    for _ in range(number):
        made.append(os.fork())
        if not made[-1]:
            return []
    return made


def _wait(children: list[int]) -> None:
    for pid in children:
        os.waitpid(pid, 0)


def burn(seconds: str, processes: str) -> None:
    """In each of so many processes; what they used, in seconds, by the kernel's account."""
    children = _children(int(processes) - 1)
    began = time.monotonic()
    while time.monotonic() < began + float(seconds):
        pass
    say(used=time.process_time(), wall=time.monotonic() - began)
    _wait(children)


def _sentinel(name: str) -> None:
    """A process of another session that nobody waits for, deaf to polite signals."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_IGN)
            os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(120)", name])
        os._exit(0)
    os.wait()


def stay(name: str) -> None:
    """Refuse to end."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _sentinel(name)
    say(staying=True)
    time.sleep(120)


def leave(name: str) -> None:
    """End at once, leaving a process behind."""
    _sentinel(name)
    for _ in range(200):
        if any(name in _command_line(pid) for pid in os.listdir("/proc") if pid.isdigit() and pid != str(os.getpid())):  # noqa: PTH208
            say(left=True)
            time.sleep(1.0)  # long enough to be seen from outside
            return
        time.sleep(0.005)


def _command_line(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as stream:
            return stream.read()
    except OSError:
        return ""


def results() -> None:
    """Results that are not what they seem, and one that is."""
    os.symlink("/etc/passwd", "link.json")  # noqa: PTH211
    os.symlink("/etc", "directory")  # noqa: PTH211
    os.mkfifo("fifo.json")
    with open("sparse.json", "wb") as stream:
        stream.truncate(60 * _MEBIBYTE)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket.json")
    with open("plain.json", "w") as out:
        out.write("{}")
    os.link("plain.json", "hard.json")
    say(made=sorted(os.listdir(".")))  # noqa: PTH208


def escapes() -> None:
    """What would retitle a terminal, clear it, answer for its user or hide what was printed."""
    os.write(1, b"before \x1b]0;owned\x07\x1b[2J\x1b[6n\x9b31m\x08\x08\r\xe2\x80\xae\xe2\x80\x8b after\n")


def flood() -> None:
    line = b"y" * 4095 + b"\n"
    while True:
        os.write(1, line)


def connections(targets: str, each: str, processes: str) -> None:
    """Open connections that ask nothing, and hold them; each process to one of the targets, ``host:port,host:port``."""
    number = 0
    for number in range(int(processes)):
        if number and os.fork() == 0:
            break
    host, port = targets.split(",")[number % len(targets.split(","))].split(":")
    held: list[socket.socket] = []
    refusal = ""
    while len(held) < int(each) and not refusal:
        try:
            held.append(socket.create_connection((host, int(port)), timeout=2))
        except OSError as error:
            refusal = str(error)
        if len(held) % 50 == 0 or refusal:
            say(process=os.getpid(), held=len(held), refusal=refusal)
    time.sleep(120)


MODES = {mode.__name__: mode for mode in (fork, fill, memory, burn, stay, leave, results, escapes, flood, connections)}

if __name__ == "__main__":
    MODES[sys.argv[1]](*sys.argv[2:])
