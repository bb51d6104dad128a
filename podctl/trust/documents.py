"""Documents from strangers: bounded, read strictly, refused with a reason. PURE."""

from __future__ import annotations

from typing import Any

from podctl.errors import ExitCode, PodctlError
from podctl.strictjson import NotJson, read_json

#: Bytes of a certificate or a record, and of a list of revocations.
MOST, MOST_OF_LIST = 1 << 20, 8 << 20
_DEEPEST = 32
_DIGITS = 19


class NotTrusted(PodctlError):
    """A document that is not what it should be, or that nobody who is trusted signed."""

    exit_code = ExitCode.GATE_FAILED


def refusal(what: str, cause: str, code: str = "not-understood") -> NotTrusted:
    """``what`` is what messages call the document; ``cause`` says why nobody is to rely on it."""
    return NotTrusted(f"{what} is refused", code=code, cause=cause, unchanged="nothing of it was used")


def read_object(data: bytes, what: str, most: int = MOST) -> dict[str, Any]:
    """``what`` is what messages call it; ``most`` bytes are read. Raises `NotTrusted`."""
    try:
        value = read_json(data, most=most, deepest=_DEEPEST, digits=_DIGITS)
    except NotJson as why:
        raise refusal(what, f"it {why}") from None
    if not isinstance(value, dict):
        raise refusal(what, "it is not a JSON object")
    return value
