"""JSON from strangers: bounded, without keys that stand twice, without what no other reader would read alike. PURE."""

from __future__ import annotations

import json
import math
from typing import Any

from podctl.errors import ExitCode, PodctlError

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
    if len(data) > most:
        raise refusal(what, f"it has more than {most:,} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
        _look_through(value)
    except RecursionError:
        raise refusal(what, f"it is nested more than {_DEEPEST} deep") from None
    except UnicodeDecodeError:
        raise refusal(what, "it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise refusal(what, f"it is no JSON: {error.msg}, at line {error.lineno}") from None
    except ValueError as error:
        raise refusal(what, str(error)) from None
    if not isinstance(value, dict):
        raise refusal(what, "it is no JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return made


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _DIGITS:
        raise ValueError("a whole number has too many digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _look_through(value: Any) -> None:
    pending = [(value, 1)]
    while pending:
        found, depth = pending.pop()
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(found, dict):
            pending += [(one, depth + 1) for pair in found.items() for one in pair]
        elif isinstance(found, list):
            pending += [(one, depth + 1) for one in found]
        elif isinstance(found, str) and not found.isascii() and any("\ud800" <= c <= "\udfff" for c in found):
            raise ValueError("text has half of a surrogate pair")
