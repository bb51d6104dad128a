"""The filter of an agent's system calls, as classic BPF: bubblewrap installs it, or a container's first program on itself.

Refused with EPERM: processes that would not be recorded (CLONE_UNTRACED), ptrace and its kin, key rings, BPF, perf, userfaultfd, io_uring, mounting,
namespaces, modules. `clone3` answers ENOSYS, so that libc falls back to `clone`, whose flags a
filter can read. Sockets: Unix, IPv4 and IPv6 only (a vsock would leave the private network).
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

_REFUSED = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438,
        "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
        "unshare": 272, "setns": 308, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "kexec_load": 246, "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163,
        "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "syslog": 103,
        "quotactl": 179, "name_to_handle_at": 303, "open_by_handle_at": 304, "vhangup": 153, "iopl": 172, "ioperm": 173,
        "move_pages": 279, "mbind": 237, "set_mempolicy": 238, "migrate_pages": 256, "modify_ldt": 154, "uselib": 134,
        "personality": 135, "fanotify_init": 300, "lookup_dcookie": 212, "nfsservctl": 180,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "pidfd_getfd": 438,
        "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
        "unshare": 97, "setns": 268, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "kexec_load": 104, "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89,
        "settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "syslog": 116,
        "quotactl": 60, "name_to_handle_at": 264, "open_by_handle_at": 265, "vhangup": 58,
        "move_pages": 239, "mbind": 235, "set_mempolicy": 237, "migrate_pages": 238,
        "personality": 92, "fanotify_init": 262, "lookup_dcookie": 18, "nfsservctl": 42,
    },
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_SOCKET = {"x86_64": 41, "aarch64": 198}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_IOCTL = {"x86_64": 16, "aarch64": 29}

_UNTRACED = 0x00800000
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6

_LOAD, _EQUAL, _SET, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data; the low half of an argument


def supported() -> bool:
    return platform.machine() in AUDIT_ARCH


@cache
def program(machine: str | None = None) -> bytes:
    """The filter as an array of ``struct sock_filter``, for bwrap's ``--seccomp``.

    Raises KeyError for a machine without a table.
    """
    machine = machine or platform.machine()
    code: list[tuple[int, int, int, int]] = []

    def load(offset: int) -> None:
        code.append((_LOAD, 0, 0, offset))

    def answer(value: int) -> None:
        code.append((_RETURN, 0, 0, value))

    def refuse_if_equal(value: int, outcome: int) -> None:
        code.append((_EQUAL, 0, 1, value))
        answer(outcome)

    eperm, enosys = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    load(_ARCH)
    code.append((_EQUAL, 1, 0, AUDIT_ARCH[machine]))
    answer(_KILL)
    load(_NR)
    if machine == "x86_64":
        code.append((_AT_LEAST, 0, 1, X32_BIT))
        answer(eperm)
    for number in sorted(_REFUSED[machine].values()):
        refuse_if_equal(number, eperm)
    refuse_if_equal(_CLONE3, enosys)

    # clone: no new namespaces, and nothing that whoever traces the caller would not trace
    code.append((_EQUAL, 0, 4, _CLONE[machine]))
    load(_ARG0)
    code.append((_SET, 0, 1, _NAMESPACES | _UNTRACED))
    answer(eperm)
    answer(_ALLOW)
    # ioctl: no typing into somebody's terminal
    code.append((_EQUAL, 0, 5, _IOCTL[machine]))
    load(_ARG1)
    code.append((_EQUAL, 1, 0, _TERMINAL_INJECTION[0]))
    code.append((_EQUAL, 0, 1, _TERMINAL_INJECTION[1]))
    answer(eperm)
    answer(_ALLOW)
    # socket: three families
    code.append((_EQUAL, 1, 0, _SOCKET[machine]))
    code.append((_EQUAL, 0, 5, _SOCKETPAIR[machine]))
    load(_ARG0)
    for position, family in enumerate(_FAMILIES):
        code.append((_EQUAL, len(_FAMILIES) - position, 0, family))
    answer(eperm)
    answer(_ALLOW)
    answer(_ALLOW)
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
