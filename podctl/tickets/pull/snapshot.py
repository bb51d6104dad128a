"""What a pull leaves: the snapshot, its state beside it, and while a pull is under way the pages that it has.

tickets.jsonl             one ticket a line, whole at any moment
tickets.jsonl.pull        where it came from, where the next pull begins, its digest
.tickets.jsonl.pages      of a pull that has not ended: the pages it has, each safe on the disk before the next is asked for
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from podctl.errors import EnvironmentProblem, SpecError
from podctl.faults import point
from podctl.spec.base import API_VERSION
from podctl.spec.problems import printable, shown
from podctl.tickets.files import draft, put, write_whole
from podctl.tickets.pull.reader import Page, Place
from podctl.tickets.rows import MAX_SOURCE

#: A row is masked before anything of it is written; the key is taken from what it gives.
Mask = Callable[[dict[str, Any]], dict[str, Any]]
_FORMAT = 1
#: What of a kept page says where the pull stands.
_KEPT = ("format", "origin", "full", "place", "mark", "ended", "digest")


@dataclass(frozen=True)
class State:
    """``origin`` stands for where and how the tickets were pulled; ``mark`` is where the next pull begins."""

    origin: str
    mark: Place
    digest: str


@dataclass(frozen=True)
class Pulled:
    """What a pull came to; ``changed`` and ``new`` are tickets that the snapshot had otherwise, or not at all."""

    tickets: int
    new: int
    changed: int
    gone: int
    digest: str


@dataclass
class Pages:
    """The pages kept of a pull under way. ``place``: where to go on, None when nothing was kept or the last page was.

    ``digest``: of the snapshot that they came to, once it was about to be put in place.
    """

    stream: BinaryIO
    begun: bool
    ended: bool
    place: Place | None
    mark: Place | None
    digest: str = ""

    def keep(self, page: Page, key: str, mask: Mask) -> None:
        """Safe on the disk when this returns. Raises `SpecError` for a row without a key."""
        rows = []
        for row in page.rows:
            masked = mask(row)
            rows.append([_key(masked, key), masked])
        gone = [_key(mask({key: identity}), key) for identity in page.gone if identity is not None]
        self._write({"rows": rows, "gone": gone, "place": page.place, "mark": page.mark, "ended": page.place is None})
        self.begun, self.ended, self.place, self.mark = True, page.place is None, page.place, page.mark
        point("pull.page-kept")

    def begin(self, origin: str, *, full: bool) -> None:
        """Forget what was kept."""
        self.stream.seek(0)
        self.stream.truncate()
        self._write({"format": _FORMAT, "origin": origin, "full": full})
        self.begun, self.ended, self.place, self.mark = False, False, None, None

    def entries(self) -> Iterator[dict[str, Any]]:
        """What is kept, page by page."""
        self.stream.seek(0)
        self.stream.readline()
        for line in self.stream:
            entry = json.loads(line)
            if "rows" in entry:
                yield entry

    def come_to(self, digest: str) -> None:
        """What the snapshot will be."""
        self._write({"digest": digest})
        self.digest = digest

    def _write(self, entry: dict[str, Any]) -> None:
        if self.stream.seek(0, os.SEEK_END) > 4 * MAX_SOURCE:
            raise _too_large()
        self.stream.write(_line(entry))
        self.stream.flush()
        os.fsync(self.stream.fileno())


class Snapshot:
    """One snapshot file; only one pull at a time works on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path.with_name(f"{path.name}.pull")
        self._pages = path.with_name(f".{path.name}.pages")

    def state(self) -> State | None:
        """Of the snapshot that is there. Raises `SpecError` when somebody changed the one or the other."""
        try:
            written = json.loads(self._state.read_text("utf-8"))
            state = State(str(written["origin"]), dict(written["mark"]), str(written["digest"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unfit(f"{shown(self._state)} cannot be read") from error
        if _digest(self.path) != state.digest:
            raise self._unfit(f"{shown(self.path)} is not what was pulled")
        return state

    @contextmanager
    def pages(self, origin: str, *, full: bool) -> Iterator[Pages]:
        """What an interrupted pull of the same origin kept, or nothing. Raises `EnvironmentProblem` while another works on it."""
        while True:
            try:
                descriptor = os.open(self._pages, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise SpecError(
                    f"no such directory: {printable(shown(self.path.parent))}",
                    code="pull-spec",
                    unchanged="nothing was done",
                    hint="make it, or name another source",
                ) from error
            with os.fdopen(descriptor, "r+b") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise EnvironmentProblem(
                        f"another pull of {printable(shown(self.path))} is under way",
                        code="pull-under-way",
                        unchanged="nothing was done",
                        hint="wait for it to end",
                    ) from error
                if os.fstat(descriptor).st_nlink == 0:
                    continue  # another pull ended, and removed it, between opening and locking
                pages = _kept(stream, origin, full=full)
                try:
                    yield pages
                finally:
                    if not pages.begun:
                        self._pages.unlink(missing_ok=True)
                return

    def finish(self, pages: Pages, origin: str, about: dict[str, Any], *, full: bool) -> Pulled:
        """Put old and new together, and in place. Killed anywhere, the next pull does it again from what was kept.

        Raises `SpecError` when it came to more than a source may have.
        """
        before = self._rows(str(about["key"]), full=full)
        merged = _merged({} if full else before, pages)
        if sum(map(len, merged.values())) > MAX_SOURCE:
            raise _too_large()
        lines = _lines(merged)
        digest = hashlib.sha256()
        for line in lines:
            digest.update(line)
        pages.come_to(digest.hexdigest())
        # Tickets have names and addresses: nobody else's to read.
        half = draft(self.path, lines, 0o600)
        point("pull.drafted")
        put(half, self.path)
        point("pull.replaced")
        pulled = Pulled(
            tickets=len(merged),
            new=len(merged.keys() - before.keys()),
            changed=sum(merged[key] != before[key] for key in merged.keys() & before.keys()),
            gone=len(before.keys() - merged.keys()),
            digest=pages.digest,
        )
        state = {
            "apiVersion": API_VERSION,
            "kind": "PulledTickets",
            **about,
            "origin": origin,
            "mark": pages.mark or {},
            "tickets": pulled.tickets,
            "digest": pulled.digest,
        }
        write_whole(self._state, (json.dumps(state, indent=1) + "\n").encode("ascii"))
        point("pull.remembered")
        self._pages.unlink()
        pages.begun = pages.ended = False
        return pulled

    def finish_killed(self, pages: Pages, origin: str, about: dict[str, Any], *, full: bool) -> None:
        """`finish` of a pull that was killed in it, unless somebody changed the snapshot since. Raises `SpecError`."""
        if (
            not full
            and (not pages.digest or _digest(self.path) != pages.digest)
            and self.state() is None
            and self.path.exists()
        ):
            raise self._unfit(f"{shown(self.path)} is not what was pulled")
        self.finish(pages, origin, about, full=full)

    def _rows(self, key: str, *, full: bool) -> dict[str, bytes]:
        """Key -> line, of the snapshot that is there; ``full``: what cannot be read is about to be replaced."""
        try:
            with self.path.open("rb") as stream:
                return {_key(json.loads(line), key): line for line in stream}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, SpecError) as error:
            if not full:
                raise self._unfit(f"{shown(self.path)} is not what was pulled") from error
            return {}

    def _unfit(self, what: str) -> SpecError:
        return SpecError(
            printable(what),
            code="pull-changed",
            unchanged="nothing was done",
            hint="podctl tickets pull FILE --full pulls everything anew",
        )


def _too_large() -> SpecError:
    return SpecError(
        f"the tickets come to more than {MAX_SOURCE >> 20} MiB",
        code="pull-too-large",
        unchanged="the snapshot is as it was",
        hint="ask for fewer of them, or for fewer fields, and pull with --full",
    )


def _kept(stream: BinaryIO, origin: str, *, full: bool) -> Pages:
    """A torn last line, of a pull that was killed while it wrote, is cut off."""
    pages = Pages(stream, False, False, None, None)
    whole = 0
    entries: list[dict[str, Any]] = []
    for line in stream:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(entry, dict):
            break
        whole += len(line)
        entries.append({name: entry[name] for name in _KEPT if name in entry})
    head = entries[0] if entries else {}
    if head.get("format") == _FORMAT and head.get("origin") == origin and head.get("full") == full and len(entries) > 1:
        stream.seek(whole)
        stream.truncate()
        last = next(entry for entry in reversed(entries) if "ended" in entry)
        return Pages(stream, True, last["ended"], last["place"], last["mark"], entries[-1].get("digest", ""))
    return pages


def _merged(before: dict[str, bytes], pages: Pages) -> dict[str, bytes]:
    """Within a page a ticket is either there or gone; a later page is a later look."""
    merged = dict(before)
    for entry in pages.entries():
        for key in entry["gone"]:
            merged.pop(key, None)
        for key, row in entry["rows"]:
            merged[key] = _line(row)
    return merged


def _lines(rows: dict[str, bytes]) -> list[bytes]:
    return [rows[key] for key in sorted(rows, key=_order)]


def _key(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None or isinstance(value, bool | list | dict) or value == "":
        raise SpecError(
            f"a ticket has no {printable(key, 60)} that tells it from others",
            code="pull-answer",
            unchanged="the snapshot is as it was",
            hint="masking must keep that column, or mask it the same way each time",
        )
    return str(value)


def _order(key: str) -> tuple[int, int, str]:
    """Numbers by value, then text: the order of a snapshot depends on its tickets alone."""
    return (0, int(key), "") if key.isascii() and key.isdigit() and len(key) < 40 else (1, 0, key)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
