"""The signed statement that goes with a seed: what was masked, with which key, what was searched for and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.keyfiles import KeyProblem
from podctl.masking.problems import MaskingProblem
from podctl.signing import PublicKey, SigningKey

#: The statement's file in a seed's directory.
STATEMENT = "statement.json"
_FORMAT = "podctl masking statement 1"


def file_digests(directory: Path) -> dict[str, str]:
    """Path within ``directory`` -> sha256 of every file in it but the statement. Raises `MaskingProblem` for anything that is no file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise MaskingProblem(f"{path} is neither a file nor a directory", code="statement-files")
        if path.is_file() and name != STATEMENT:
            with open(path, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def sign(directory: Path, facts: dict[str, Any], key: SigningKey) -> dict[str, Any]:
    """The statement over the files that ``directory`` has now, and over ``facts`` (JSON values; no raw value among them).

    The same files, facts and key give the same statement, to the byte: Ed25519 signatures have no randomness.
    """
    content = {"format": _FORMAT, **facts, "files": file_digests(directory)}
    return {"statement": content, "public_key": key.public.raw.hex(), "signature": key.sign(_canonical(content)).hex()}


def write(directory: Path, statement: dict[str, Any]) -> None:
    (directory / STATEMENT).write_text(json.dumps(statement, indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Verdict:
    """``differences``: one line each; none when the seed is what was signed, by ``signer``."""

    signer: str
    facts: dict[str, Any]
    differences: tuple[str, ...]


def verify(directory: Path, trusted: Iterable[str]) -> Verdict:
    """Compares a seed with its statement. ``trusted``: ids of keys whose word counts.

    Raises `MaskingProblem` when there is no statement to compare with.
    """
    try:
        signed = json.loads((directory / STATEMENT).read_bytes())
        content, public = signed["statement"], PublicKey(bytes.fromhex(signed["public_key"]))
        signature = bytes.fromhex(signed["signature"])
        listed = dict(content["files"])
        known = content["format"] == _FORMAT
    except FileNotFoundError:
        raise MaskingProblem(
            f"{directory} has no {STATEMENT}", code="statement-missing", hint="was it captured with masking?"
        ) from None
    except (ValueError, KeyError, TypeError, OSError, KeyProblem):
        raise MaskingProblem(f"{directory / STATEMENT} is no statement", code="statement-damaged") from None
    differences = [] if known else ["the statement is of another format"]
    if not public.verify(_canonical(content), signature):
        differences.append("the signature does not belong to the statement")
    if public.id not in set(trusted):
        differences.append(f"it is signed by {public.id}, which is none of the keys that were named")
    there = file_digests(directory)
    differences += [f"{name}: is not there" for name in listed.keys() - there.keys()]
    differences += [f"{name}: was added" for name in there.keys() - listed.keys()]
    differences += [f"{name}: its content differs" for name in listed.keys() & there.keys() if listed[name] != there[name]]
    return Verdict(public.id, content, tuple(sorted(differences)))


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
