"""What becomes an agent does so under podctl's filter, or not at all."""

from __future__ import annotations

import inspect
import json
import os
import platform
import subprocess
import sys

import pytest

from podctl.backends import seccomp
from podctl.backends.containers.launch import confined
from podctl.backends.inpod import confine


def become(*argv: str, filters: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    source, usual, *program = confined(argv)
    command = [sys.executable, "-I", "-S", "-c", source, filters or usual, *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **environment})


def test_the_program_runs_filtered_with_its_arguments_and_gains_nothing() -> None:
    done = become("/bin/sh", "-c", 'grep -E "Seccomp:|NoNewPrivs" /proc/self/status; echo "$0"', "a b")
    assert done.stdout.split() == ["NoNewPrivs:", "1", "Seccomp:", "2", "a", "b"], done
    refused = become("unshare", "--user", "true")
    assert refused.returncode != 0 and "Operation not permitted" in refused.stderr, refused


def test_signals_and_variables_are_those_that_were_given() -> None:
    own = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert become("grep", "SigIgn", "/proc/self/status").stdout == own
    bare = become("env", LC_ALL="", LC_CTYPE="C", LANG="C", ODD="a=b\nc").stdout
    assert "LC_CTYPE=C\n" in bare and "ODD=a=b\nc\n" in bare


@pytest.mark.parametrize(
    ("argv", "filters", "code", "said"),
    [
        (("/nowhere/at-all",), "", 127, "/nowhere/at-all: No such file or directory"),
        (("/etc/passwd",), "", 126, "/etc/passwd: Permission denied"),
        (("/bin/true",), "{}", 125, "there is no filter of system calls for"),
        (("/bin/true",), json.dumps({platform.machine(): "00" * 8}), 125, "the kernel does not take the filter"),
    ],
)
def test_what_cannot_be_started_ends_as_in_a_shell(argv: tuple[str, ...], filters: str, code: int, said: str) -> None:
    done = become(*argv, filters=filters)
    assert done.returncode == code and said in done.stderr and done.stdout == "", done


def test_every_machine_with_a_filter_is_given_one() -> None:
    source, filters, *program = confined(["x"])
    assert source == inspect.getsource(confine) and program == ["x"]
    assert set(json.loads(filters)) == set(seccomp.AUDIT_ARCH)
