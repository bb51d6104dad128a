"""PID 1 of a local test pod: owns its namespaces and starts every process in it.

Run with nothing but the standard library and two modules beside it. It makes user, mount, pid, ipc, uts
and two network namespaces: the *inner* one, where services and databases listen, and the *door*
one, where agents run and where the only listeners are the gateway's. When it dies the kernel
kills everything in the pod; it dies when its control socket closes.

Control: JSON messages on a SOCK_SEQPACKET socket, file descriptors beside them. A second such
socket, the dialer, gives the gateway TCP sockets of the inner network.
"""

from __future__ import annotations

import array
import base64
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from podctl.backends.local import leavings, recorder
from podctl.backends.local.kernel import REFUSALS, alive, call, copy_out, mount, pipe_with, receive, send

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 8, 4096, 16384, 1 << 18, 2
PR_SET_NO_NEW_PRIVS, PR_SET_NAME = 38, 15
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

#: ids inside the pod; a pod made by an ordinary user has only one, USER_ID.
INIT_ID, POSTGRES_ID, SERVICE_ID, AGENT_ID = 0, 1, 2, 3
USER_ID = 1000
#: Directories of an agent's scratch space, which bwrap binds to /tmp and /dev/shm.
SCRATCH_PARTS = ("tmp", "shm")
#: Of the host's mounts, those at these places and beneath them stay; the runtime's binds are in the pod's directory.
NEEDED = (b"/usr/", b"/lib", b"/bin/", b"/sbin/", b"/etc/", b"/dev/", b"/proc/")
IDS = {"postgres": POSTGRES_ID, "service": SERVICE_ID, "agent": AGENT_ID}


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    # Services keep production's ports, 80 and 443 among them.
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as knob:
            knob.write("0")
    except OSError:
        pass


def bind_runtime(binds: list[list[str]]) -> None:
    """Make host paths readable at places that the pod's user can reach, whatever their parents' modes."""
    for source, target in binds:
        mount(source, target, None, MS_BIND | MS_REC)


def forget_mounts(directory: str) -> None:
    """Take away the host's mounts that no process of the pod needs: bubblewrap reads all there are for each of its binds."""
    own = os.fsencode(directory) + b"/"
    with open("/proc/self/mountinfo", "rb") as mounts:
        # Spaces and the like are written in octal.
        points = {line.split()[4].decode("unicode_escape").encode("latin-1") for line in mounts}
    for point in sorted(points):
        beneath = point.rstrip(b"/") + b"/"
        if own.startswith(beneath) or beneath.startswith((own, *NEEDED)):
            continue
        try:
            call("umount2", point, MNT_DETACH)
        except OSError:
            pass  # gone with the one above it


def enter(config: dict[str, Any], control: socket.socket) -> None:
    """Into the pod's namespaces, as its init user."""
    rest = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    if config["base_uid"] is None:
        uid, gid = os.getuid(), os.getgid()
        call("unshare", CLONE_NEWUSER | rest)
        for name, line in (("setgroups", "deny"), ("gid_map", f"{USER_ID} {gid} 1"), ("uid_map", f"{USER_ID} {uid} 1")):
            with open(f"/proc/self/{name}", "w") as handle:
                handle.write(line)
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        bind_runtime(config["binds"])
        return
    call("unshare", CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    bind_runtime(config["binds"])
    forget_mounts(config["directory"])
    os.setgroups([])
    os.setresgid(*(config["base_uid"],) * 3)
    os.setresuid(*(config["base_uid"],) * 3)
    call("unshare", CLONE_NEWUSER | rest)
    send(control, {"event": "map"})
    receive(control)
    os.setresgid(INIT_ID, INIT_ID, INIT_ID)
    os.setresuid(INIT_ID, INIT_ID, INIT_ID)


class Init:
    def __init__(self, config: dict[str, Any], control: socket.socket, dialer: socket.socket) -> None:
        self.config = config
        self.control = control
        self.dialer = dialer
        self.inner_of: dict[int, int] = {}  # outer bwrap -> its pid namespace's init
        self.ended: dict[int, dict[str, Any]] = {}
        self.spawned: set[int] = set()
        self.status_of: dict[int, int] = {}  # outer bwrap -> fd of its status
        self.workspace = os.path.join(config["directory"], "work")  # noqa: PTH118
        self.scratch = os.path.join(config["directory"], "scratch")  # noqa: PTH118
        self.single = config["base_uid"] is None
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if os.path.isdir("/dev/shm"):  # noqa: PTH112
            # PostgreSQL's shared memory must go with the pod, also after a kill.
            mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=268435456")
        for name in ("passwd", "group", "hosts"):
            mount(f"{config['directory']}/etc/{name}", f"/etc/{name}", None, MS_BIND)
        self.mount_data()
        loopback_up()
        self.door = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        call("unshare", CLONE_NEWNET)
        loopback_up()
        socket.sethostname("pod")

    def mount_data(self) -> None:
        """Databases in memory when they are small: no disk to wait for, and nothing to remove afterwards."""
        size = self.config["data_bytes"]
        if size is None or not self.config["databases"]:
            return
        directory = os.path.join(self.config["directory"], "pg")  # noqa: PTH118
        options = f"size={size},mode=0755"
        try:
            # Files in large pieces where they are large: copying and removing them takes a fifth of the time.
            mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, f"{options},huge=within_size")
        except OSError:
            mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, options)
        for name in self.config["databases"]:
            os.mkdir(f"{directory}/{name}", 0o700)  # noqa: PTH102
            os.chown(f"{directory}/{name}", self.id_of("postgres"), self.id_of("postgres"))

    def id_of(self, who: str) -> int:
        return USER_ID if self.single else IDS[who]

    # ---- requests ----

    def do_listen(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Listening sockets in the door network, for the gateway to accept on."""
        inner = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        call("setns", self.door, CLONE_NEWNET)
        made = []
        try:
            for host, port in message["addresses"]:
                listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
                listener.listen(256)
                made.append(listener.detach())
        finally:
            call("setns", inner, CLONE_NEWNET)
            os.close(inner)
        return {}, made

    def do_sockets(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Unconnected sockets of the inner network, for readiness checks."""
        return {}, [socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach() for _ in range(message["count"])]

    def do_workspace(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """A fresh workspace and temporary directories, bounded in bytes and files; what earlier ones held is gone."""
        owner = self.id_of("agent")
        for path, size in ((self.workspace, message["size"]), (self.scratch, message["scratch"])):
            self.unmount(path)
            options = f"size={size},nr_inodes={message['inodes']},mode=0700,uid={owner},gid={owner}"
            mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options)
        for name in SCRATCH_PARTS:
            os.mkdir(f"{self.scratch}/{name}")  # noqa: PTH102
            os.chown(f"{self.scratch}/{name}", owner, owner)
            os.chmod(f"{self.scratch}/{name}", 0o1777)  # noqa: PTH101
        for name, fd in zip(message["files"], fds, strict=True):
            target = os.open(f"{self.workspace}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.lseek(fd, 0, os.SEEK_SET)
            while chunk := os.read(fd, 1 << 20):
                os.write(target, chunk)
            os.fchown(target, owner, owner)
            os.close(target)
        return {}, []

    def unmount(self, path: str) -> None:
        try:
            call("umount2", path.encode(), MNT_DETACH)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def do_collect(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """What the agent left, by name. Only a regular file within the cap is read: never through a link."""
        found: list[str] = []
        refused: dict[str, str] = {}
        out = leavings.gather([(self.workspace, ""), (f"{self.scratch}/tmp", "/tmp/")]) if message["leavings"] else []
        directory = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in message["names"]:
                try:
                    out.append(copy_out(directory, name, message["limit"]))
                    found.append(name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    refused[name] = REFUSALS.get(error.errno or 0, os.strerror(error.errno or 0))
        finally:
            os.close(directory)
            self.unmount(self.scratch)
        return {"found": found, "refused": refused}, out

    def do_spawn(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Start a process: under bwrap when ``sandbox`` is given, else plain.

        ``record`` (required or wanted, else empty): its processes are recorded into the descriptor after the
        streams, the recorder taking at most ``record_cores``. The other descriptors are those of its cgroups.
        """
        groups = fds[3:]
        records = groups.pop(0) if message["record"] else -1
        handshake = recorder.Handshake() if message["record"] else None
        status_read = status_write = -1
        if message.get("sandbox"):
            status_read, status_write = os.pipe2(os.O_CLOEXEC)
        failure_read, failure_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self.become(message, fds[:3], groups, status_write, handshake)
            except BaseException as error:  # the child must never return into the loop
                os.write(failure_write, str(error).encode()[:4000])
                os._exit(127)
        if handshake is not None:
            recorder.start(pid, handshake, records, message["record_cores"], self.door)
            handshake.close()
        os.close(failure_write)
        if status_write >= 0:
            os.close(status_write)
        failure = os.read(failure_read, 4096)
        os.close(failure_read)
        if failure:
            os.waitpid(pid, 0)
            if status_read >= 0:
                os.close(status_read)
            raise RuntimeError(failure.decode("utf-8", "replace"))
        if status_read >= 0:
            self.status_of[pid] = status_read
        self.spawned.add(pid)
        return {"pid": pid}, []

    def become(
        self,
        message: dict[str, Any],
        streams: list[int],
        groups: list[int],
        status: int,
        handshake: recorder.Handshake | None,
    ) -> NoReturn:
        for group in groups:
            os.write(group, b"0")
        if message["net"] == "door":
            call("setns", self.door, CLONE_NEWNET)
        os.setsid()
        for name, value in message["rlimits"].items():
            number = getattr(resource, f"RLIMIT_{name}")
            most = resource.getrlimit(number)[1]
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(number, (value, value))
        identity = self.id_of(message["who"])
        if not self.single:
            os.setgroups([])
            os.setresgid(identity, identity, identity)
            os.setresuid(identity, identity, identity)
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.chdir(message["directory"])
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        argv: list[str] = message["argv"]
        for target, source in enumerate(streams):
            os.dup2(source, target)
        if message.get("sandbox"):
            sandbox = message["sandbox"]
            arguments = pipe_with(b"".join(os.fsencode(part) + b"\0" for part in sandbox["arguments"]))
            seccomp = pipe_with(base64.b64decode(sandbox["seccomp"]))
            for fd in (arguments, seccomp, status):
                os.set_inheritable(fd, True)
            argv = [
                sandbox["bwrap"],
                "--args",
                str(arguments),
                "--seccomp",
                str(seccomp),
                "--json-status-fd",
                str(status),
                "--",
            ]
            argv += message["argv"]
        if handshake is not None:
            handshake.wait(required=message["record"] == "required")
        os.execve(argv[0], argv, message["environment"])

    def do_kill(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Signal a process that was spawned here; a sandbox is ended from its innermost init outwards."""
        pid = message["pid"]
        self.read_inner(pid)
        targets = [pid] if message["signal"] != signal.SIGKILL else [self.inner_of.get(pid, pid), pid]
        for target in targets:
            try:
                os.kill(target, message["signal"])
            except ProcessLookupError:
                pass
        return {}, []

    # ---- children ----

    def read_inner(self, outer: int) -> None:
        """Learn the pid of the sandbox's own init from bwrap's status, once it says so."""
        fd = self.status_of.get(outer)
        if fd is None or outer in self.inner_of:
            return
        ready, _, _ = select.select([fd], [], [], 0)
        if not ready:
            return
        text = os.read(fd, 65536).split(b"\n")[0]
        try:
            self.inner_of[outer] = int(json.loads(text)["child-pid"])
        except (ValueError, KeyError):
            pass

    def reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.ended[pid] = {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}
        for outer in self.spawned:
            self.read_inner(outer)
        for outer in self.spawned & self.ended.keys():
            inner = self.inner_of.get(outer, 0)
            # A sandbox has ended when its own init was reaped: the kernel lets that happen only
            # after the last process in its pid namespace is dead.
            if inner and inner not in self.ended and alive(inner):
                os.kill(inner, signal.SIGKILL)
                continue
            self.report(outer, inner)
        adopted = self.ended.keys() - self.spawned - set(self.inner_of.values())
        for pid in adopted:
            del self.ended[pid]

    def report(self, outer: int, inner: int) -> None:
        ending = self.ended.pop(outer)
        beneath = self.ended.pop(inner, None)
        if beneath is not None:
            ending["cpu"] += beneath["cpu"]
            ending["rss"] = max(ending["rss"], beneath["rss"])
        self.spawned.discard(outer)
        self.inner_of.pop(outer, None)
        if outer in self.status_of:
            os.close(self.status_of.pop(outer))
        send(self.control, {"event": "exit", "pid": outer, **ending})

    # ---- loop ----

    def run(self) -> NoReturn:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        for fd in (wake_read, self.control.fileno(), self.dialer.fileno()):
            poll.register(fd, select.POLLIN)
        networks = [os.readlink(f"/proc/self/fd/{self.door}"), os.readlink("/proc/self/ns/net")]  # noqa: PTH115
        send(self.control, {"event": "ready", "networks": networks})
        dialing = True
        while True:
            events = dict(poll.poll(50 if self.ended else None))
            if wake_read in events:
                os.read(wake_read, 65536)
            self.reap()
            if dialing and self.dialer.fileno() in events:
                dialing = self.dial()
                if not dialing:
                    poll.unregister(self.dialer.fileno())
            if self.control.fileno() in events:
                message, fds = receive(self.control)
                if message is None:
                    os._exit(0)
                self.answer(message, fds)

    def answer(self, message: dict[str, Any], fds: list[int]) -> None:
        out: list[int] = []
        try:
            reply, out = getattr(self, f"do_{message['op']}")(message, fds)
        except Exception as error:  # every failure is an answer: this process must not die of a request
            reply = {"error": str(error) or type(error).__name__}
        finally:
            for fd in fds:
                os.close(fd)
        send(self.control, {"id": message["id"], **reply}, out)
        for fd in out:
            os.close(fd)

    def dial(self) -> bool:
        """Unconnected sockets of the inner network for the gateway; False when it is gone."""
        request = self.dialer.recv(16)
        if not request:
            return False
        made = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(min(16, max(1, int(request))))]
        fds = array.array("i", [made_socket.fileno() for made_socket in made])
        self.dialer.sendmsg([str(len(made)).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        for made_socket in made:
            made_socket.close()
        return True


def main() -> NoReturn:
    os.umask(0o022)
    control = socket.socket(fileno=int(sys.argv[1]))
    dialer = socket.socket(fileno=int(sys.argv[2]))
    for channel in (control, dialer):
        os.set_inheritable(channel.fileno(), False)
    config, _ = receive(control)
    if config is None:
        os._exit(0)
    try:
        enter(config, control)
        child = os.fork()
    except OSError as error:
        send(control, {"event": "failed", "error": str(error), "errno": error.errno})
        os._exit(1)
    if child:
        send(control, {"event": "forked", "pid": child})
        os._exit(0)
    os.setsid()
    call("prctl", PR_SET_NAME, b"podctl-init", 0, 0, 0)
    try:
        init = Init(config, control, dialer)
    except OSError as error:
        send(control, {"event": "failed", "error": str(error), "errno": error.errno})
        os._exit(1)
    init.run()
