"""What is written whole is there with everything or not at all, and leaves no draft."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from podctl.errors import EnvironmentProblem, ExitCode
from podctl.evidence.drafts import private, written_whole


class Problem(EnvironmentProblem):
    pass


def file(draft: Path) -> None:
    draft.write_text("whole")


def directory(draft: Path) -> None:
    draft.mkdir()
    file(draft / "part")


@pytest.mark.parametrize("make", [file, directory])
def test_it_has_its_name_once_it_is_whole(make: Callable[[Path], None], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with written_whole(out, Problem, "thing") as draft:
        make(draft)
        assert not out.exists()
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208


@pytest.mark.parametrize("make", [file, directory])
@pytest.mark.parametrize("raised", [OSError(28, "no space left"), ValueError("of the caller's")])
def test_what_is_raised_leaves_nothing(make: Callable[[Path], None], raised: Exception, tmp_path: Path) -> None:
    expected = Problem if isinstance(raised, OSError) else ValueError
    with pytest.raises(expected) as error, written_whole(tmp_path / "out", Problem, "thing") as draft:
        make(draft)
        raise raised
    assert isinstance(error.value, ValueError) or error.value.code == "thing-unwritable"
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(Problem) as error, written_whole(tmp_path / "out", Problem, "thing"):
        raise AssertionError("it is not to be written")
    assert (error.value.code, error.value.exit_code) == ("thing-exists", ExitCode.USAGE)
    assert (tmp_path / "out").is_symlink()


def test_private_files_are_their_owners(tmp_path: Path) -> None:
    with open(tmp_path / "out", "xb", opener=private):
        pass
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
