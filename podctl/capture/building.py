"""A directory that is made under a private name and gets its own when it is whole."""

from __future__ import annotations

import glob
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podctl.errors import SpecError
from podctl.evidence.owner import Owner
from podctl.faults import point

_MAKING, _REPLACED = "making", "replaced"


@contextmanager
def building(target: Path, marker: str, *, replace: bool) -> Iterator[Path]:
    """A directory to fill; it becomes ``target`` when the block ends well, and is gone when it does not.

    What killed builds of the same target left is removed first. Raises `SpecError` when ``target`` is there and is not to be
    replaced, or has no ``marker`` in it and so is something else.
    """
    _clean(target)
    refuse_taken(target, marker, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    owner = Owner.current()
    private = _beside(target, f"{_MAKING}-{owner.pid}-{owner.start}-{secrets.token_hex(4)}")
    # Within it by its own name: what is written of the directory may say what it is called.
    inner = private / target.name
    inner.mkdir(mode=0o700, parents=True)
    point("capture.begun")
    try:
        yield inner
        point("capture.whole")
        refuse_taken(target, marker, replace=replace)
        if target.exists():
            aside = _beside(target, f"{_REPLACED}-{secrets.token_hex(4)}")
            target.rename(aside)
            point("capture.set-aside")
            inner.rename(target)
            shutil.rmtree(aside)
        else:
            inner.rename(target)
        point("capture.made")
        private.rmdir()
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise


def _beside(target: Path, what: str) -> Path:
    return target.parent / f".{target.name}.{what}"


def refuse_taken(target: Path, marker: str, *, replace: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not (target / marker).is_file():
        raise SpecError(
            f"{target} is there already, and is no captured seed",
            code="capture-target",
            unchanged="nothing was changed",
            hint="name another directory",
        )
    if not replace:
        raise SpecError(
            f"{target} is there already",
            code="capture-target",
            unchanged="nothing was changed",
            hint="--replace takes the new capture in its place, once that is whole",
        )


def _clean(target: Path) -> None:
    """Bring back what a killed build had set aside, and remove what dead ones left."""
    for aside in target.parent.glob(f".{glob.escape(target.name)}.{_REPLACED}-*"):
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)
    for left in target.parent.glob(f".{glob.escape(target.name)}.{_MAKING}-*-*-*"):
        pid, start, _ = left.name.rpartition(f".{_MAKING}-")[2].split("-")
        here = Owner.current()
        if Owner(int(pid), start, here.boot_id, here.host).alive() is False:
            shutil.rmtree(left, ignore_errors=True)
