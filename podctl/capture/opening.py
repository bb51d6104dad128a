"""The engine for a source's URL."""

from __future__ import annotations

from pathlib import Path

from podctl.capture.engine import Engine
from podctl.capture.postgres_engine import PostgresEngine
from podctl.capture.postgres_schema import DumpPrograms
from podctl.errors import SpecError
from podctl.spec.capture import CaptureSource


def open_engine(source: CaptureSource, programs: DumpPrograms, seed: int, base: Path) -> Engine:
    """The source, connected; a file's path is relative to ``base``. Raises `SpecError`, `CaptureProblem`."""
    if source.url.startswith(("postgresql://", "postgres://")) or "=" in source.url.split("/")[0]:
        return PostgresEngine(source, programs, seed)
    if source.url.startswith(("sqlite://", "mysql://", "mariadb://", "mysql+", "mariadb+")):
        from podctl.capture.generic import GenericEngine

        return GenericEngine(source, seed, base)
    raise SpecError(
        "source.url is of no database that podctl can capture",
        code="capture-url",
        hint="postgresql://USER@HOST/DATABASE, service=NAME, mysql://USER@HOST/DATABASE, or sqlite:///FILE",
    )
