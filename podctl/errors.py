"""Errors a user is meant to read. Anything else that escapes is a bug."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    DONE = 0
    BUG = 1
    USAGE = 2
    ENVIRONMENT = 3
    TEARDOWN_INCOMPLETE = 4
    INCONCLUSIVE = 5
    GATE_FAILED = 100
    INTERRUPTED = 130


class PodctlError(Exception):
    """An expected failure: what happened, why, and what to type.

    ``code`` is a stable machine-readable name, ``cause`` one line on why,
    ``hint`` one line on what to type, ``unchanged`` says what was and was not changed.
    """

    exit_code: ExitCode = ExitCode.ENVIRONMENT

    def __init__(
        self,
        what: str,
        *,
        code: str,
        cause: str = "",
        hint: str = "",
        unchanged: str = "",
        exit_code: ExitCode | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.cause = cause
        self.hint = hint
        self.unchanged = unchanged
        if exit_code is not None:
            self.exit_code = exit_code

    def render(self) -> str:
        """The text shown on a terminal: the headline, then indented lines."""
        lines = [f"error: {self.what} [{self.code}]"]
        lines += [f"  {line}" for text in (self.cause, self.unchanged, self.hint) for line in text.splitlines()]
        return "\n".join(lines)


class SpecError(PodctlError):
    """A mistake in what the user wrote; nothing was made."""

    exit_code = ExitCode.USAGE


class EnvironmentProblem(PodctlError):
    """The machine or a dependency cannot do what was asked."""

    exit_code = ExitCode.ENVIRONMENT
