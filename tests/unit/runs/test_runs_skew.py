"""Whether a program sees another time: told by what it is, never assumed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from podctl.backends.base import Exit, Image, Process, Recording
from podctl.runs.skew import environment, library, why_not


def exit_of(exe: str) -> Exit:
    own = Process(2, None, 0, 1, 0, None, (Image(0, ("x",), exe),), 1, 0.0, True)
    return Exit(0, None, recording=Recording((own,), 1))


def test_programs_of_glibc_see_it(tmp_path: Path) -> None:
    assert why_not(exit_of(str(Path(sys.executable).resolve())), tmp_path) == ""
    assert why_not(exit_of("/bin/sh"), tmp_path) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF static", "not linked with glibc"),
        (b"\x7fELF /lib/ld-musl-x86_64.so.1", "not linked with glibc"),
        (b"\x7fELF /lib64/ld-linux-x86-64.so.2 \xff Go buildinf:", "is a Go program"),
    ],
)
def test_others_do_not_and_it_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "main").write_bytes(content)
    assert said in why_not(exit_of("/agent/main"), tmp_path)


def test_what_nobody_recorded_is_not_taken_for_granted(tmp_path: Path) -> None:
    assert (
        why_not(Exit(0, None), tmp_path)
        and why_not(exit_of("/agent/gone"), tmp_path)
        and why_not(exit_of("/workspace/x"), tmp_path)
    )


def test_the_monotonic_clock_and_files_times_stay() -> None:
    found = environment(-60.0)
    assert found["FAKETIME"] == "-60" and found["LD_PRELOAD"] == str(library()) and environment(0.5)["FAKETIME"] == "+0.5"
    assert found["FAKETIME_DONT_FAKE_MONOTONIC"] == found["NO_FAKE_STAT"] == "1"
