"""Values as YAML that people read and podctl reads back as they were."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_LOOKS_LIKE_NUMBER = re.compile(r"[-+.\d][\d_.eExXa-fA-F:+-]*")


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    """Long texts in a block; what YAML 1.2 reads as something else in quotes."""
    if (
        "\n" in data
        and data.isprintable() is False
        and all(c.isprintable() or c in "\n\t" for c in data)
        and not re.search(r"[ \t]\n|\A\s", data)
    ):
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|")
    style = "'" if _LOOKS_LIKE_NUMBER.fullmatch(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(value: Any) -> str:
    """Keys in their order. Text with a NUL or half of a surrogate pair, and numbers beyond 64 bits, are not read back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
