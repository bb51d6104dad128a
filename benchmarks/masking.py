"""What masking costs: rows a second of one core beside splitting and joining them, and what the parts of it take."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks.effort import Effort
from benchmarks.table import Row, spread
from podctl.masking.canaries import Canary, forms
from podctl.masking.codes import Phones
from podctl.masking.keys import MaskingKey
from podctl.masking.prf import Keyed
from podctl.masking.scan import Scanner
from podctl.masking.table import Column, Watch, table_masker
from podctl.spec.masking import Masking

KEY = MaskingKey(bytes(range(32)))
#: Of a chunk.
LINES = 1_000
TYPES = {
    "id": "integer", "parent": "integer", "ref": "uuid", "email": "text", "name": "text", "phone": "text", "born": "date", "salary": "numeric",
    "profile": "jsonb", "note": "text", "status": "text", "created": "timestamp with time zone",
}  # fmt: skip
#: What is measured -> column and its rule; every other column is kept.
POLICIES: dict[str, dict[str, Any]] = {
    "e-mail, name, phone": {"email": "email", "name": "name", "phone": "phone"},
    "three ids: a key, a reference, a UUID": {"id": "id", "parent": "id", "ref": "id"},
    "a date by its subject": {"born": {"mask": "date", "subject": "id"}},
    "a number": {"salary": "number"},
    "a document of three paths": {"profile": {"mask": "json", "paths": {"mail": "email", "tags": "keep", "name": "name"}}},
    "text of 150 characters, names of its row": {"name": "name", "note": "text"},
}


def measure(effort: Effort) -> list[Row]:
    count = effort.pick(2_000, 50_000, 100_000)
    chunks = _chunks(count)
    size = sum(map(len, chunks))
    rows = []
    floor = [count / _taken(chunks, _split_and_join) for _ in range(effort.times(5))]
    for name, rules in POLICIES.items():
        some = chunks[: max(1, len(chunks) // 10)] if "note" in rules else chunks
        found = [len(some) * LINES / _taken(some, _masker(rules)) for _ in range(effort.times(5))]
        first = name == next(iter(POLICIES))
        beside = f"split and joined alone {spread(floor, '/s')}" if first else ""
        rows.append(Row(f"masking {name}", found, "rows/s", beside, 150_000 if first else None, at_least=first))
    rows.append(_functions(effort))
    rows.append(_scan(effort, chunks, size))
    rows.append(_collisions(effort))
    return rows


def _chunks(count: int) -> list[bytes]:
    """Rows of 12 columns, each value of a person its own, as COPY text of a thousand lines."""
    rnd = random.Random(1)
    lines = [
        f"{n}\t{1 + n // 10}\t{rnd.getrandbits(128):032x}\tzoe.{n}@corp.example\t{_word(rnd)} {_word(rnd)}\t+49 170 {rnd.randrange(10**8):08d}\t"
        f"{1950 + n % 50}-0{1 + n % 9}-1{n % 10}\t{rnd.randrange(10**6) / 100}\t"
        f'{{"mail": "zoe.{n}@corp.example", "tags": ["a", "b"], "name": "{_word(rnd)} {_word(rnd)}", "more": 1}}\t'
        f"The printer on floor {n % 9} does not answer since monday, please call zoe.{n}@corp.example or +1 415 867 {n % 10000:04d} when somebody has time, thanks\t"
        f"open\t2024-01-01 10:00:00+00\n"
        for n in range(1, count + 1)
    ]
    lines = [_with_uuid(line) for line in lines]
    return ["".join(lines[at : at + LINES]).encode() for at in range(0, count, LINES)]


def _with_uuid(line: str) -> str:
    number, parent, ref, rest = line.split("\t", 3)
    return f"{number}\t{parent}\t{ref[:8]}-{ref[8:12]}-4{ref[13:16]}-a{ref[17:20]}-{ref[20:]}\t{rest}"


def _word(rnd: random.Random) -> str:
    return "".join(rnd.choices("abcdefghijklmnopqrstuvwxyz", k=7)).title()


def _masker(rules: dict[str, Any]) -> Callable[[bytes], bytes]:
    policy = Masking.model_validate(
        {
            "apiVersion": "podctl/v1",
            "kind": "Masking",
            "name": "bench",
            "databases": {"bench": {"people": {name: rules.get(name, "keep") for name in TYPES}}},
        }
    )
    columns = [Column(name, kind) for name, kind in TYPES.items()]
    return table_masker(policy, KEY, "bench", "people", columns, Watch())


def _split_and_join(chunk: bytes) -> bytes:
    fields = b"\t".join(chunk[:-1].split(b"\n")).split(b"\t")
    return b"\n".join(map(b"\t".join, zip(*[iter(fields)] * len(TYPES), strict=True))) + b"\n"


def _taken(chunks: list[bytes], work: Callable[[bytes], bytes]) -> float:
    """Seconds of the processor."""
    began = process_time()
    for chunk in chunks:
        work(chunk)
    return process_time() - began


def _functions(effort: Effort) -> Row:
    values = [f"zoe.{n}@corp.example".encode() for n in range(effort.pick(1_000, 50_000, 100_000))]
    keyed, start = Keyed(KEY.secret, "bench"), hmac.new(KEY.secret, b"", hashlib.sha256)

    def copied(value: bytes) -> bytes:
        state = start.copy()
        state.update(value)
        return state.digest()

    def each(work: Callable[[bytes], bytes]) -> list[float]:
        return [_each(work, values) for _ in range(effort.times(5))]

    one_shot, reused = each(lambda value: hmac.digest(KEY.secret, value, "sha256")), each(copied)
    beside = f"HMAC-SHA256 {spread(one_shot, 'µs')}, its start reused {spread(reused, 'µs')}"
    return Row("a keyed BLAKE2b of 20 bytes", each(keyed.digest), "µs", beside)


def _each(work: Callable[[bytes], bytes], values: list[bytes]) -> float:
    began = process_time()
    for value in values:
        work(value)
    return (process_time() - began) / len(values) * 1e6


def _scan(effort: Effort, chunks: list[bytes], size: int) -> Row:
    place = effort.directory / "scanned"
    place.mkdir()
    (place / "0001.copy").write_bytes(b"".join(chunks))
    values = [f"nobody{n}.at.all@corp-raw.example" for n in range(2_000)]
    scanner = Scanner([Canary(n, "people.email", "email", forms(value)) for n, value in enumerate(values)])
    found = []
    for _ in range(effort.times(3)):
        began = process_time()
        result = scanner.scan([place])
        found.append(result.bytes / (process_time() - began) / 1e6)
    return Row(
        "searching files for 2,000 raw values", found, "MB/s", f"{size / 1e6:.0f} MB of COPY text, digests taken with it"
    )


def _collisions(effort: Effort) -> Row:
    count = effort.pick(1_000, 200_000, 1_000_000)
    keyed, phones = Keyed(KEY.secret, "email"), Phones(KEY.secret)
    tokens = {keyed.digest(b"%d" % n)[:8] for n in range(count)}
    numbers = {phones(f"+1 415 {200 + n // 10_000 % 800} {n % 10_000:04d}") for n in range(min(count, 100_000))}
    beside = f"{len(numbers):,} masks of {min(count, 100_000):,} North American telephone numbers, of 71,200 reserved ones"
    return Row(f"collisions of {count:,} values in 64 bits", [float(count - len(tokens))], "", beside, target=0)
