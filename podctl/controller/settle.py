"""What a process does once that is about to host runs."""

from __future__ import annotations

import gc
import resource


def settle() -> None:
    """When everything is imported and nothing has begun."""
    # Some ten files a pod: a shell's usual 1,024 are for interactive use.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Everything imported so far stays: it need not be looked through again and again for garbage.
    gc.freeze()
