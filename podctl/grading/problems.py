"""How grading ends when it cannot say pass or fail."""

from __future__ import annotations

from podctl.errors import EnvironmentProblem, PodctlError


class GraderProblem(EnvironmentProblem):
    """A check could not be decided: the attempt ends with cause ``grader_failed``, neither passed nor failed."""


class ResultProblem(PodctlError):
    """The agent's result.json is not what the contract asks for; ``what`` says why on one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"result.json {reason}", code="result-invalid")
