"""What a trial of an engine comes to, by what was found."""

from __future__ import annotations

from typing import Any

import pytest

from podctl.backends.docker.check import judged_agent, judged_network
from podctl.backends.docker.objects import Place
from podctl.backends.docker.problems import refusal
from podctl.evidence.owner import Owner

PLACE = Place("p", "r", Owner.current())
CONFINED: dict[str, Any] = {
    "uid": PLACE.uid,
    "interfaces": ["lo"],
    "status": {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"},
    "root": False,
    "tmp": True,
    "ways": {"10.0.0.2:20000": "nobody"},
}


def test_an_agent_that_is_confined_passes() -> None:
    assert judged_agent(CONFINED, PLACE).state == "yes"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"interfaces": ["lo", "eth0"]}, "eth0"),
        ({"ways": {"10.0.0.1:22": "there"}}, "10.0.0.1:22"),
        ({"status": {**CONFINED["status"], "CapBnd": "00000000a80425fb"}}, "capabilities"),
        ({"status": {**CONFINED["status"], "NoNewPrivs": "0"}}, "privileges"),
        ({"status": {**CONFINED["status"], "Seccomp": "0"}}, "filtered"),
        ({"root": True}, "root"),
        ({"uid": 0}, "runs as 0"),
        ({"tmp": False}, "proves nothing"),
    ],
)
def test_one_that_is_not_is_refused_with_the_proof(change: dict[str, Any], word: str) -> None:
    found = judged_agent({**CONFINED, **change}, PLACE)
    assert found.state == "no" and found.required and word in found.detail


@pytest.mark.parametrize(
    ("neighbour", "machine", "outside", "state"),
    [
        ("reached", "nobody", "nobody", "yes"),
        ("reached", "there", "nobody", "no"),
        ("reached", "nobody", "reached", "no"),
        ("nobody", "nobody", "nobody", "no"),
    ],
)
def test_services_are_closed_in_only_with_a_control_that_works(neighbour: str, machine: str, outside: str, state: str) -> None:
    ways = {"control": neighbour, "host": machine, "192.0.2.1:80": outside}
    assert judged_network({"ways": ways}, "control", "host").state == state


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (404, "No such image: nobody/has:1", "image-pull"),
        (403, "Pool overlaps with other one on this address space", "addresses-taken"),
        (400, "Unknown runtime specified runsc: unknown or invalid runtime name: runsc", "runtime-missing"),
        (500, "something else", "engine-refused"),
    ],
)
def test_an_engines_refusal_is_told_by_its_reason(status: int, said: str, code: str) -> None:
    problem = refusal("container x", status, said)
    assert problem.code == code and said in problem.cause
