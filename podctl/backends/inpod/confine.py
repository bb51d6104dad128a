"""Becomes an agent under podctl's own filter of system calls, beside the engine's. ``python -c THIS FILTERS PROGRAM…``

``FILTERS`` is a JSON object: machine -> array of ``struct sock_filter``, in hex. A plain script on the standard library. Ends
with 125 when there is no filter or the kernel takes none, with 127 or 126 when the program cannot be executed, as a shell does.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
from typing import NoReturn

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
_INSTRUCTION = 8  # bytes


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine(program: bytes) -> None:
    """From here on, for this process and its children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    given = _Program(len(program) // _INSTRUCTION, program)
    asked = ((PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(given)))
    for option, first, second in asked:
        if libc.prctl(option, ctypes.c_ulong(first), second, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def given_environment() -> dict[str, str]:
    """As it was when this program began: Python adds to its own where the locale is C."""
    with open("/proc/self/environ", "rb") as stream:
        pairs = [os.fsdecode(entry).partition("=") for entry in stream.read().split(b"\0") if entry]
    return {name: value for name, _, value in pairs}


def fail(code: int, said: str) -> NoReturn:
    print(f"podctl: {said}", file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    filters, argv = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        confine(bytes.fromhex(filters[platform.machine()]))
    except KeyError:
        fail(125, f"there is no filter of system calls for {platform.machine()}; the agent was not started")
    except OSError as error:
        fail(125, f"the kernel does not take the filter of system calls: {error}; the agent was not started")
    # Python ignores them, and what is ignored stays so.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, given_environment())
    except OSError as error:
        fail(127 if isinstance(error, FileNotFoundError) else 126, f"{argv[0]}: {error.strerror}")
