"""What goes wrong with a capture, in words."""

from __future__ import annotations

from podctl.errors import EnvironmentProblem


class CaptureProblem(EnvironmentProblem):
    """A capture could not be made as asked; nothing of it is left."""
