"""The record of processes against what programs do to hide from it, to break it, or because they may."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from local_pod import BarePod, bare_pod

from podctl.backends.base import Exit, Process
from podctl.errors import EnvironmentProblem


def execute(directory: Path, program: str, *arguments: str, **limits: Any) -> Exit:
    async def go() -> Exit:
        async with bare_pod(directory) as pod:
            return await pod.python(program, *arguments, **limits)

    return asyncio.run(go())


def own(exit_: Exit) -> Process:
    return next(process for process in exit_.recording.kept if process.own)


def ending(exit_: Exit) -> tuple[int | None, int | None, str]:
    return exit_.code, exit_.signal, exit_.stderr.decode()


def test_a_program_executed_by_a_thread_is_the_same_process(tmp_path: Path) -> None:
    program = """
import os, threading, time
threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", "/bin/true; exit 6"])).start()
time.sleep(10)
"""
    exit_ = execute(tmp_path, program)
    assert ending(exit_) == (6, None, "")
    assert exit_.recording.total == 2
    assert [image.argv[0] for image in own(exit_).images][1:] == ["sh"]
    assert [process.parent for process in exit_.recording.kept] == [None, own(exit_).pid]


def test_a_process_lives_on_when_its_first_thread_has_ended(tmp_path: Path) -> None:
    program = """
import ctypes, os, platform, threading, time
def later():
    time.sleep(0.2)
    os._exit(4)
threading.Thread(target=later).start()
ctypes.CDLL(None).syscall(ctypes.c_long({"x86_64": 60, "aarch64": 93}[platform.machine()]), 0)
"""
    exit_ = execute(tmp_path, program)
    assert ending(exit_) == (4, None, "")
    assert exit_.recording.total == 1
    assert own(exit_).ended_ns - own(exit_).started_ns > 0.2e9


def test_signals_stops_and_continuations_reach_whom_they_would(tmp_path: Path) -> None:
    program = """
import os, signal, sys
seen = []
for number in (signal.SIGUSR1, signal.SIGTRAP, signal.SIGCONT):
    signal.signal(number, lambda number, frame: seen.append(number))
signal.raise_signal(signal.SIGUSR1)
signal.raise_signal(signal.SIGTRAP)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        signal.pause()
_, status = os.waitpid(child, os.WUNTRACED)
assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP, status
assert open(f"/proc/{child}/status").read().split("State:")[1].split()[0] in "tT"
os.kill(child, signal.SIGCONT)
_, status = os.waitpid(child, os.WCONTINUED)
assert os.WIFCONTINUED(status), status
os.kill(child, signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
os.kill(child, signal.SIGTERM)
os.kill(child, signal.SIGCONT)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert seen == [signal.SIGUSR1, signal.SIGTRAP], seen
"""
    exit_ = execute(tmp_path, program)
    assert ending(exit_) == (0, None, "")
    assert [process.code for process in exit_.recording.kept] == [0, 7]


def test_an_agent_that_stops_itself_meets_its_wall_limit(tmp_path: Path) -> None:
    program = """
import os, signal
for _ in range(3):
    if os.fork() == 0:
        break
os.kill(os.getpid(), signal.SIGSTOP)
"""
    exit_ = execute(tmp_path, program, wall_s=1.0)
    assert (exit_.limit, exit_.recording.total) == ("wall", 4)
    assert exit_.wall_s < 3
    assert {process.signal for process in exit_.recording.kept} == {signal.SIGKILL}


def test_an_exit_code_above_128_is_no_signal(tmp_path: Path) -> None:
    exit_ = execute(tmp_path / "1", "import os; os._exit(137)")
    assert (exit_.code, exit_.signal) == (137, None)
    assert execute(tmp_path / "2", "import os; os.kill(os.getpid(), 9)").signal == 9


def test_the_forker_is_the_parent_whatever_clone_is_told(tmp_path: Path) -> None:
    program = """
import ctypes, os, platform, signal
clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
CLONE_PARENT = 0x8000
read, write = os.pipe()
if ctypes.CDLL(None).syscall(ctypes.c_long(clone), ctypes.c_long(CLONE_PARENT | signal.SIGCHLD), 0, 0, 0, 0) == 0:
    os._exit(9)
os.close(write)
os.read(read, 1)
"""
    exit_ = execute(tmp_path, program)
    assert ending(exit_) == (0, None, "")
    assert [(process.code, process.parent) for process in exit_.recording.kept] == [(0, None), (9, own(exit_).pid)]


def test_arguments_and_programs_are_bounded(tmp_path: Path) -> None:
    program = r"""
import os, sys
left = int(sys.argv[1])
if left:
    os.execv(sys.executable, [sys.executable, "-S", "-c", open("/proc/self/cmdline").read().split("\0")[3], str(left - 1)])
os.posix_spawn("/bin/true", [b"\xff\xfe", b"x" * 100_000], {})
os.wait()
"""
    exit_ = execute(tmp_path, program, "30")
    assert ending(exit_) == (0, None, "")
    assert (own(exit_).executed, len(own(exit_).images)) == (31, 4)
    child = exit_.recording.kept[1].images[0]
    assert child.cut
    assert child.argv[0] == "\udcff\udcfe"
    assert 4096 <= len(child.argv[1]) <= 8192
    assert child.exe == "/usr/bin/true"


def test_a_fork_bomb_is_counted_and_ended(tmp_path: Path) -> None:
    program = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0 and os.fork() == 0:
            os._exit(0)
    except OSError:
        if os.getpid() != 2:
            os._exit(0)
"""
    exit_ = execute(tmp_path, program, wall_s=4.0)
    assert exit_.limit == "wall"
    assert exit_.wall_s < 10
    assert exit_.recording.total > len(exit_.recording.kept) == 1000


def test_nothing_is_missed_in_a_crowd(tmp_path: Path) -> None:
    """Processes forked by threads of processes, some killed at once, against what they say of themselves."""
    program = """
import os, random, signal, subprocess, sys, threading
random.seed(4)
out = os.open("pids", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def told(pid):
    os.write(out, b"%d\\n" % pid)
def work(depth):
    for _ in range(4):
        kind = random.randrange(4)
        if kind == 0:
            told(os.posix_spawn("/bin/true", ["true"], {}))
            continue
        pid = os.fork()
        if pid == 0:
            if kind == 1 and depth:
                threads = [threading.Thread(target=work, args=(depth - 1,)) for _ in range(2)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
            if kind == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        told(pid)
        if kind == 3:
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass
for _ in range(10):
    work(3)
while True:
    try: os.wait()
    except ChildProcessError: break
"""
    exit_ = execute(tmp_path, program, collect=("pids",))
    assert ending(exit_) == (0, None, "")
    said = sorted(int(pid) for pid in exit_.files["pids"].split())
    assert sorted(process.pid or 0 for process in exit_.recording.kept if not process.own) == said
    assert len(said) > 100
    known = {process.pid for process in exit_.recording.kept}
    assert all(process.parent in known for process in exit_.recording.kept if not process.own)


# ---- the recorder's own end ----


def recorder_of(pod: BarePod) -> int:
    """The pid of the recorder that works in the pod, as the host sees it."""
    deadline = time.monotonic() + 10
    init = next(record.init.pid for record in pod.backend.state.records() if record.id == pod.id and record.init)
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{init}/task/{init}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "podctl-recorder":
                return int(child)
        time.sleep(0.01)
    raise AssertionError("no recorder")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_without_its_recorder_an_agent_ends_and_the_pod_says_why(tmp_path: Path, number: int) -> None:
    async def go() -> float:
        async with bare_pod(tmp_path) as pod:
            running = asyncio.ensure_future(pod.run(("/bin/sh", "-c", "echo began; sleep 100")))
            recorder = await asyncio.to_thread(recorder_of, pod)
            await asyncio.sleep(0.1)
            began = time.monotonic()
            os.kill(recorder, number)
            with pytest.raises(EnvironmentProblem, match="recorder of processes died"):
                await asyncio.wait_for(running, 10)
            return time.monotonic() - began

    assert asyncio.run(go()) < 5


def test_the_recorder_holds_nothing_of_the_pod_open(tmp_path: Path) -> None:
    async def go() -> list[str]:
        async with bare_pod(tmp_path) as pod:
            running = asyncio.ensure_future(pod.run(("/bin/sh", "-c", "sleep 1")))
            recorder = await asyncio.to_thread(recorder_of, pod)
            await asyncio.sleep(0.3)
            held = [os.readlink(entry) for entry in Path(f"/proc/{recorder}/fd").iterdir() if int(entry.name) > 2]  # noqa: PTH115
            await running
            return held

    assert [held.split(":")[0] for held in asyncio.run(go())] in (["pipe", "socket"], ["pipe", "pipe", "socket"])
