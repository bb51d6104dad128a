"""A captured seed tried on this machine: what it becomes is the template that runs will use."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.files import remove_tree
from podctl.backends.local.state import State
from podctl.capture.problems import CaptureProblem
from podctl.data.seed import SeedProblem
from podctl.spec.models import Database, Seed


class LocalTrial:
    """Needs what a local pod needs. ``database`` is production's name for it, which a template's name depends on."""

    def __init__(self, name: str, database: str, said: Callable[[str], None]) -> None:
        self._name, self._said = name, said
        self._database = database if re.fullmatch("[a-z_][a-z0-9_]{0,62}", database) else name.replace("-", "_")
        self._built: Path | None = None

    def build(self, seed: Path) -> Path:
        """The data directory of the template. Raises `CaptureProblem`, `EnvironmentProblem`."""
        self._said("building the template")
        wanted = Database(name=self._database, seed=Seed(captured=seed.absolute()))
        try:
            self._built = asyncio.run(LocalBackend(State.open()).template(self._name, wanted))
        except SeedProblem as error:
            raise CaptureProblem(
                "the copy cannot be loaded",
                code="capture-not-loadable",
                cause=f"{error.what}: {error.cause}",
                unchanged="nothing was made",
                hint="leave_out_extensions: names those that the copy can do without"
                if "extension" in error.cause
                else "a constraint may forbid an emptied reference: parents: {follow: {TABLE.COLUMN: always}}",
            ) from error
        return self._built / "data"

    def remove(self) -> None:
        if self._built is not None:
            remove_tree(self._built)
