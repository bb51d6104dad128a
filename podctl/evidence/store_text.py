"""Any string as one that every database takes, and back."""

from __future__ import annotations

import json
import re

_UNSTORABLE = re.compile("[\\\\\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")


def storable(value: str) -> str:
    """What databases refuse (NUL, lone surrogates) as a JSON escape."""
    return _UNSTORABLE.sub(lambda match: json.dumps(match[0])[1:-1], value)


def loaded(value: str) -> str:
    """What `storable` was given."""
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda match: str(json.loads(f'"{match[0]}"')), value)
