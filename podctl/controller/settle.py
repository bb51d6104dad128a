"""What a process does that hosts runs for long."""

from __future__ import annotations

import ctypes
import gc
import resource


def settle() -> None:
    """When everything is imported and nothing has begun."""
    # Some ten files a pod: a shell's usual 1,024 are for interactive use.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Everything imported so far stays: it need not be looked through again and again for garbage.
    gc.freeze()


def give_back() -> None:
    """Memory that was needed while pods were made: glibc keeps what lies between what is still in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # other libraries have other ways
        trim(0)
