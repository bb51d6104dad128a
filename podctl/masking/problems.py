"""What cannot be masked as asked. No message ever has a value in it."""

from __future__ import annotations

from podctl.errors import SpecError


class MaskingProblem(SpecError):
    """A rule, a column, a row or a key with which nothing can be masked."""
