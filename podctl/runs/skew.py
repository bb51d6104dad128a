"""Another time for an agent: libfaketime, loaded into its programs by the dynamic linker.

The kernel has no clock of days that is one process's own: time namespaces shift the monotonic clocks only. So a program has to ask libc for the
time. Python, Node, Ruby, Java, Rust and shells do, Go and programs without a dynamic linker of glibc's do not; which it was is told.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from podctl.agents import contract
from podctl.backends.base import Exit

#: The monotonic clock and the times of files stay as they are: time-outs are no matter of what day it is.
_SETTINGS = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
_GO = b"\xff Go buildinf:"
_LOOKED_AT = 64 * 2**20


def library() -> Path | None:
    """The package's, or the distribution's."""
    spec = importlib.util.find_spec("libfaketime")
    roots = [Path(place) for place in spec.submodule_search_locations or ()] if spec is not None else []
    found = [root / "vendor/libfaketime/src/libfaketime.so.1" for root in roots]
    found += sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return next((path.resolve() for path in found if path.is_file()), None)


def environment(offset: float) -> dict[str, str]:
    """Raises LookupError where the library is not there."""
    path = library()
    if path is None:
        raise LookupError("libfaketime is not installed")
    return {"LD_PRELOAD": str(path), "FAKETIME": f"{offset:+g}" if offset % 1 else f"{int(offset):+d}"} | _SETTINGS


def why_not(exit_: Exit, agent: Path) -> str:
    """Why the agent's own program did not see that time; empty when it did. ``agent``: its directory on this machine."""
    own = next((process for process in exit_.recording.kept if process.own), None)
    if own is None or not own.images:
        return "which program it is was not recorded"
    seen = Path(own.images[-1].exe)
    inside = Path("/agent")
    path = agent / seen.relative_to(inside) if seen.is_relative_to(inside) else seen
    if seen.is_relative_to(contract.WORKSPACE):
        return "its program lies in its workspace"
    try:
        with open(path, "rb") as file:
            content = file.read(_LOOKED_AT)
    except OSError as error:
        return f"{seen.name} cannot be read: {error.strerror}"
    if _GO in content:
        return f"{seen.name} is a Go program, which asks the kernel for the time"
    return "" if b"/ld-linux" in content else f"{seen.name} is not linked with glibc, dynamically"
