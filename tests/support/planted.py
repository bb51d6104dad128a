"""Values planted into ordinary sentences, in the ways that people write them, for counting which a text mask finds."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator

from podctl.masking.codes import iban_check, luhn

_FIRST = ["Zoeline", "Bartosz", "Ngozi", "Quentin", "Saoirse", "Tjark", "Ximena", "Ödön", "Fenwick", "Marguerite"]
_LAST = [
    "Quartermaine",
    "Okonkwo-Brandt",
    "Szczepański",
    "Thorvaldsen",
    "O'Rafferty",
    "Yilmazer",
    "Vandermeersch",
    "Przybylski",
]
_BEFORE = ("Hi, please help ", "The account of ", "per our call with ", "FYI: ", "reported by ", "(")
_AFTER = (" is locked since monday", ", thanks", ". The printer is broken too.", " asked again\nregards", ") wants access", "")


def _phone(random: random.Random) -> str:
    return f"{random.randrange(201, 990)}{random.randrange(200, 999)}{random.randrange(10**4):04d}"


def _card(random: random.Random) -> str:
    body = "4" + "".join(random.choices("0123456789", k=14))
    return body + str(luhn(body))


def _iban(random: random.Random) -> str:
    account = "".join(random.choices("0123456789", k=18))
    return "DE" + iban_check("DE", account) + account


def _groups(text: str) -> str:
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _secret(random: random.Random) -> str:
    return "".join(random.choices("abcdefghjkmnpqrstuvwxyzABCDEFGHJKMN23456789", k=24))


#: What is looked for by its form: name -> (how a value is made, how it is written).
PATTERNS: dict[str, tuple[Callable[[random.Random], str], Callable[[str], str]]] = {
    "e-mail": (lambda r: f"{r.choice(_FIRST).lower()}.{r.randrange(999)}@corp.example", str),
    "e-mail, capitals": (lambda r: f"Zoe_{r.randrange(9999)}@Corp-Raw.Example", str.upper),
    "e-mail written out": (lambda r: f"zoe{r.randrange(9999)} at corp dot example", str),
    "phone +1 xxx xxx xxxx": (_phone, lambda d: f"+1 {d[:3]} {d[3:6]} {d[6:]}"),
    "phone (xxx) xxx-xxxx": (_phone, lambda d: f"({d[:3]}) {d[3:6]}-{d[6:]}"),
    "phone xxx.xxx.xxxx": (_phone, lambda d: f"{d[:3]}.{d[3:6]}.{d[6:]}"),
    "phone 0xxxx xxxxxx": (_phone, lambda d: f"0{d[:4]} {d[4:]}"),
    "phone +49 xx xxxxxxxx": (_phone, lambda d: f"+49 {d[:2]} {d[2:]}"),
    "phone, ten digits alone": (_phone, str),
    "card, groups of four": (_card, _groups),
    "card, digits alone": (_card, str),
    "IBAN, groups of four": (_iban, _groups),
    "IBAN, alone": (_iban, str),
    "IBAN, small letters": (_iban, str.lower),
    "sk_live_… key": (_secret, lambda s: "sk_live_" + s),
    "ghp_… key": (_secret, lambda s: "ghp_" + s),
    "password: …": (_secret, lambda s: "password: " + s),
    "my password is …": (_secret, lambda s: "my password is " + s),
    "URL with a token": (_secret, lambda s: f"https://app.corp.example/reset?token={s}"),
    "URL with a long path segment": (_secret, lambda s: f"https://app.corp.example/invite/{s}"),
    "random text alone, 24 letters and digits": (_secret, str),
    "US social security number": (lambda r: f"{r.randrange(100, 899)}-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}", str),
    "IPv4 address": (lambda r: f"10.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}", str),
    "street and number": (lambda r: f"{r.randrange(1, 200)} {r.choice(_LAST)} Road", str),
}

_misspelt: Callable[[str], str] = lambda name: name[:3] + name[4:]  # noqa: E731

#: What is looked for because a column has it: name -> how a full name is written.
NAMES: dict[str, Callable[[str], str]] = {
    "full name": str,
    "full name, capitals": str.upper,
    "full name, small letters": str.lower,
    "full name, decomposed accents": lambda name: unicodedata.normalize("NFD", name),
    "family name, given name": lambda name: ", ".join(reversed(name.split(" ", 1))),
    "given name, capital": lambda name: name.split(" ")[0],
    "family name, capital": lambda name: name.split(" ", 1)[1],
    "given name, small letters": lambda name: name.split(" ")[0].lower(),
    "full name, a letter missing": _misspelt,
}


def people() -> list[str]:
    return [f"{first} {last}" for first in _FIRST for last in _LAST]


def sentences(value: str, randomness: random.Random, count: int = 1) -> Iterator[str]:
    for _ in range(count):
        yield randomness.choice(_BEFORE) + value + randomness.choice(_AFTER)
