"""``python -m podctl.scans.bandit_worker``: bandit over sources on stdin, in a process that can do nothing else.

Nothing is imported or executed of what is looked at: bandit reads its syntax tree. A syntax tree of hostile source can cost
all memory and time, or end the interpreter: so this process has little of both, no other user's rights, and no descriptors left
to open a file or a socket with.

In: a JSON object {name: base64 of source}. Out: {"issues": [[name, id, severity, line, text]], "skipped": {name: why}}.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import resource
import sys
import warnings

from bandit.core.config import BanditConfig
from bandit.core.manager import BanditManager

MEMORY = 768 * 2**20
NOBODY = 65534


def confine(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def look(sources: dict[str, bytes]) -> dict[str, object]:
    """``# nosec`` is the agent's word and does not count."""
    manager = BanditManager(BanditConfig(), "file", quiet=True, ignore_nosec=True)
    manager.files_list = list(sources)
    confine(int(sys.argv[1]))
    for name, source in sources.items():
        manager._parse_file(name, io.BytesIO(source), manager.files_list)
    issues = [[one.fname, one.test_id, one.severity, one.lineno, one.text] for one in manager.results]
    return {"issues": issues, "skipped": dict(manager.skipped)}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    given = json.loads(sys.stdin.buffer.read())
    print(json.dumps(look({name: base64.b64decode(source) for name, source in given.items()})))
