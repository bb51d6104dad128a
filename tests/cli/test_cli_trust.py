"""certify, verify, trust, promote, waive and revoke over a run that is in a store: nothing is run."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from certified import certified, changed, facts, keep, of_this_agent, run, sealed
from click.testing import CliRunner, Result
from example_run import START_NS
from postgres_server import serving
from project import environment_for

from podctl.agents.identity import agent_digest
from podctl.cli.main import podctl
from podctl.clock import SystemClock
from podctl.errors import PodctlError
from podctl.evidence.audit_check import entries_of
from podctl.evidence.audit_entries import who
from podctl.evidence.note import read_note
from podctl.evidence.store_read import open_to_read
from podctl.signing import PublicKey, make_key, read_key
from podctl.spec.load import load_model
from podctl.spec.models import Agent
from podctl.spec.scaffold import scaffold
from podctl.trust.certificate import read_certificate
from podctl.trust.dsse import open_envelope, seal
from podctl.trust.records import MOST_ENTRIES, REVOCATIONS, Revocations

SOON = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * 86400))
LADDER = {
    "apiVersion": "podctl/v1",
    "kind": "Ladder",
    "name": "ours",
    "people": {"ana": "ana.pub", "bob": "bob.pub"},
    "levels": [{"name": "low", "tickets": 10}, {"name": "high", "repeats": 2, "approvals": {"count": 1}, "max_age": "30d"}],
}


@dataclass(frozen=True)
class Office:
    """A project with a store, a run of its agent that ended a moment ago, and keys outside of it."""

    root: Path
    keys: Path

    def do(self, *arguments: str) -> Result:
        return CliRunner().invoke(podctl, [*arguments], standalone_mode=False)

    def done(self, *arguments: str) -> str:
        result = self.do(*arguments)
        assert result.exception is None, result.exception
        assert result.return_value == 0, result.output
        return result.output

    def refused(self, *arguments: str) -> PodctlError:
        result = self.do(*arguments)
        assert isinstance(result.exception, PodctlError), result.output
        return result.exception

    def key(self, name: str) -> str:
        return str(self.keys / f"{name}.pem")

    def certify(self, *arguments: str) -> str:
        return self.done("certify", "latest", "--key", self.key("release"), *arguments)

    def verify(self, *arguments: str) -> Result:
        return self.do("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", *arguments)

    @property
    def people(self) -> tuple[str, ...]:
        return ("--policy", "ladder.yaml", "--trusted", "release.pub")

    def promote(self, name: str, *arguments: str) -> tuple[str, ...]:
        return ("promote", "agent.yaml", "--to", "high", "--by", name, "--key", self.key(name), *self.people, *arguments)

    def waive(self, demand: str = "repeats", until: str = SOON) -> tuple[str, ...]:
        said = ("--demand", demand, "--owner", "bob", "--reason", "no model", "--until", until, "--key", self.key("bob"))
        return ("waive", "agent.yaml", "--level", "high", *said, *self.people)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    root = tmp_path / "p"
    scaffold(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PODCTL_SIGNING_KEY", raising=False)
    for name in ("release", "ana", "bob"):
        made = make_key(tmp_path / "keys" / f"{name}.pem")
        (root / f"{name}.pub").write_text(made.public.pem)
    (root / "ladder.yaml").write_text(yaml.safe_dump(LADDER))
    keep(root, run(**of_this_agent(root)))
    return Office(root, tmp_path / "keys")


def test_a_run_is_certified_and_the_certificate_verified_offline(office: Office) -> None:
    said = office.certify("--out", "c.json")
    assert said.startswith("PASSED  first-agent 1, ")
    assert "isolation" not in said
    made = office.verify("--max-age", "7d", "--boundary", "boundary.yaml", "--sample", "51d0e7c3" * 8)
    assert made.return_value == 0
    assert made.output.endswith("ok: 6 requirements are met\n")
    assert office.done(
        "verify", "c.json", "--agent", agent_digest(load_model(Path("agent.yaml"), Agent)).digest, "--key", "release.pub"
    )
    told = json.loads(office.verify("-o", "json").output)
    assert told["accepted"] is True
    assert {one["name"] for one in told["requirements"]} == {
        "signature",
        "agent",
        "freshness",
        "revocations",
        "not revoked",
        "result",
    } - {"not revoked"}


def test_each_thing_that_is_wrong_is_one_line_and_exits_with_100(office: Office) -> None:
    office.certify("--out", "c.json")
    Path("agent/agent.py").write_text("# another agent")
    Path("boundary.yaml").write_text("apiVersion: podctl/v1\nkind: Boundary\nname: other\n")
    made = office.verify("--boundary", "boundary.yaml", "--sample", "0" * 64, "--max-list-age", "1d")
    assert made.return_value == 100
    lines = [line.split() for line in made.output.splitlines() if line.startswith("missing")]
    assert [line[1] for line in lines] == ["agent", "sample", "boundary", "revocations"]
    assert made.output.endswith("REFUSED: 4 of 6 requirements are not met\n")
    stranger = office.do("verify", "c.json", "--agent", "agent.yaml", "--key", "ana.pub")
    assert stranger.return_value == 100
    assert "by none of the 1 keys" in stranger.output
    assert "REFUSED: 1 of 1 requirement is not met" in stranger.output
    Path("c.json").write_bytes(b"\x1b[2J{")
    hostile = office.verify()
    assert hostile.return_value == 100
    assert hostile.output.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("verify", "none.json", "--agent", "agent.yaml", "--key", "release.pub"), "unreadable"),
        (("verify", "c.json", "--agent", "none.yaml", "--key", "release.pub"), "no-agent"),
        (("verify", "c.json", "--agent", "first-agent", "--key", "release.pub"), "no-agent"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "none.pub"), "unreadable"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "agent.yaml"), "key-damaged"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--record", "agent.yaml"), "usage"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "../keys/release.pem"), "key-private"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--level", "highest"), "no-level"),
        (
            ("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--policy", "agent.yaml", "--level", "a"),
            "spec-invalid",
        ),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--max-age", "soon"), "usage"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--sample", "agent.yaml"), "no-sample"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "-o", "admission"), "usage"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "-o", "admission", "--image", "a:1"), "no-end"),
        (
            (
                "verify",
                "c.json",
                "--agent",
                "agent.yaml",
                "--key",
                "release.pub",
                "--max-age",
                "7d",
                "-o",
                "admission",
                "--image",
                "a:1",
            ),
            "no-image-digest",
        ),
        (("trust",), "usage"),
        (("trust", "agent.yaml"), "no-key"),
        (("trust", "somebody", "--key", "release.pub"), "no-agent"),
        (("revoke", "agent", "abc", "--reason", "r", "--key", "../keys/bob.pem"), "usage"),
        (("verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--policy", "ladder.yaml"), "usage"),
        (("revoke", "agent", "0" * 16, "--reason", "r", "--key", "../keys/bob.pem"), "usage"),
        (("revoke", "key", "0" * 64, "--reason", "r", "--key", "../keys/bob.pem"), "usage"),
        (("revoke", "agent", "0" * 64, "--key", "../keys/bob.pem"), "usage"),
        (("revoke", "agent", "0" * 64, "--reason", "r"), "key-missing"),
        (("revoke",), "usage"),
        (("certify", "latest"), "key-missing"),
    ],
)
def test_what_is_typed_wrong_is_told_with_what_to_type(office: Office, arguments: tuple[str, ...], code: str) -> None:
    office.certify("--out", "c.json")
    problem = office.refused(*arguments)
    assert problem.code == code
    assert problem.render().count("\n") >= 1, problem.render()
    assert int(problem.exit_code) in (2, 100)


def test_a_level_is_reached_by_a_waiver_and_somebody_else_s_approval(office: Office) -> None:
    office.certify()
    shutil.copy(next(Path(".podctl/trust/certificates").iterdir()), "c.json")
    before = office.done("trust", "agent.yaml", "--policy", "ladder.yaml", "--key", "release.pub")
    assert "has level low of the ladder ours" in before
    assert "missing  repeats" in before and "--repeats 2" in before
    assert "missing  approvals" in before and "one of ana, bob" in before

    too_early = office.refused(*office.promote("ana"))
    assert too_early.code == "not-promotable" and "high: repeats" in too_early.cause
    office.done(*office.waive())
    borrowed = office.refused(*office.promote("ana", "--key", office.key("bob")))
    assert borrowed.code == "not-counted" and "is not the one that the ladder has for ana" in borrowed.what
    assert office.refused(*office.promote("bob", "--by", "eve")).what.endswith("does not have it among its people")
    office.done(*office.promote("ana", "--reason", "looks right"))

    after = office.done("trust", "first-agent", "--policy", "ladder.yaml", "--key", "release.pub")
    assert "has level high of the ladder ours" in after and after.endswith("there is no higher level\n")
    told = json.loads(office.done("trust", "agent.yaml", "--policy", "ladder.yaml", "--key", "release.pub", "-o", "json"))
    assert (told["level"], told["next"]) == ("high", [])

    records = [part for path in Path(".podctl/trust/records").iterdir() for part in ("--record", str(path))]
    level = ("--policy", "ladder.yaml", "--level", "high")
    assert office.verify(*level).return_value == 100
    made = office.verify(*level, *records)
    assert made.return_value == 0
    assert "waived     high: repeats" in made.output and "no model" in made.output
    office.certify("--out", "c.json")
    again = office.verify(*level, *records)
    assert again.return_value == 100
    assert "ana's does not count: it is of another certificate" in again.output


def test_what_was_said_stands_in_the_audit_log_and_the_certificate_is_bound_to_it(office: Office) -> None:
    office.certify("--out", "c.json")
    office.certify()
    office.done(*office.waive())
    office.done(*office.promote("ana"))
    office.done("revoke", "agent", "0" * 64, "--reason", "r", "--by", "bob", "--key", office.key("bob"))
    reader = open_to_read(office.root / ".podctl", SystemClock())
    entries = {entry["kind"]: entry["data"] for entry in entries_of(reader)}
    digest = entries["certificate.made"]["certificate"]
    assert (entries["agent.promoted"]["certificate"], entries["agent.promoted"]["for"]) == (digest, "ana")
    assert (entries["demand.waived"]["demand"], entries["demand.waived"]["for"]) == ("repeats", "bob")
    assert (entries["trust.revoked"]["what"], entries["trust.revoked"]["id"]) == ("agent", "0" * 64)
    found = read_certificate(open_envelope(Path("c.json").read_bytes(), "c"), "c").facts
    release = PublicKey.from_pem(Path("release.pub").read_bytes(), "release")
    assert read_note(found.audit.checkpoint.encode()).signers([release]) == [release]
    assert found.startedBy == found.certifiedBy == who()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE runs SET verdict = 'pass', findings = '[]'", "the verdict, its findings or notes are not what the log says"),
        ("UPDATE audit SET entry = replace(entry, ' uid ', ' uid 9')", "entry 1 was changed"),
    ],
)
def test_a_run_whose_store_was_edited_is_not_certified(office: Office, change: str, said: str) -> None:
    with sqlite3.connect(office.root / ".podctl" / "store.db") as connection:
        connection.execute(change)
    problem = office.refused("certify", "latest", "--key", office.key("release"), "--out", "c.json")
    assert problem.code == "evidence-damaged"
    assert said in problem.cause
    assert not Path("c.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("promote", "agent.yaml", "--to", "low", "--by", "Ana Smith"),
        ("promote", "agent.yaml", "--to", "low", "--by", "ana", "--reason", "r" * 3000),
        (
            "waive",
            "agent.yaml",
            "--level",
            "high",
            "--demand",
            "repeats",
            "--owner",
            "ana",
            "--until",
            SOON,
            "--reason",
            "r" * 501,
        ),
        ("waive", "agent.yaml", "--level", "high", "--demand", "repeats", "--owner", "\x1b", "--until", SOON, "--reason", "r"),
    ],
)
def test_what_nobody_could_read_is_not_signed(office: Office, arguments: tuple[str, ...]) -> None:
    office.certify()
    problem = office.refused(*arguments, "--key", office.key("ana"), *office.people)
    assert (problem.code, int(problem.exit_code)) == ("usage", 2)
    assert problem.cause.isprintable()
    assert not Path(".podctl/trust/records").exists()
    long = office.refused("revoke", "agent", "0" * 64, "--reason", "r" * 501, "--key", office.key("ana"))
    assert long.code == "usage" and not Path(".podctl/trust/revoked.json").exists()


def test_nobody_approves_what_they_certified(office: Office) -> None:
    office.done("certify", "latest", "--key", office.key("ana"))
    trusting = ("--policy", "ladder.yaml", "--trusted", "ana.pub")
    mine = ("promote", "agent.yaml", "--to", "high", "--by", "ana", "--key", office.key("ana"), *trusting)
    office.done(*(*office.waive()[:-4], *trusting))
    problem = office.refused(*mine)
    assert problem.code == "not-counted" and "another person has to look" in problem.what


@pytest.mark.parametrize(
    ("demand", "until", "why"),
    [
        ("tickets", SOON, "makes no demand"),
        ("max_age", SOON, "is met"),
        ("approvals", SOON, "never waived"),
        ("repeats", "2020-01-01", "no day of the year to come"),
        ("repeats", "2999-01-01", "no day of the year to come"),
        ("repeats", "2999-02-30", "no day of the year to come"),
    ],
)
def test_what_cannot_be_waived_is_not(office: Office, demand: str, until: str, why: str) -> None:
    office.certify()
    problem = office.refused(*office.waive(demand, until))
    assert (problem.code, problem.unchanged) == ("not-waivable", "nothing was written")
    assert why in problem.what
    assert not Path(".podctl/trust/records").exists()


def test_what_is_revoked_is_refused_once_the_list_is_there(office: Office) -> None:
    office.certify("--out", "c.json")
    office.certify()
    assert office.verify().return_value == 0
    digest = agent_digest(load_model(Path("agent.yaml"), Agent)).digest
    revoke = ("--key", office.key("release"), "--list", "revoked.json")
    office.done("revoke", "--renew", *revoke)
    assert "neither the certificate" in office.verify("--revoked", "revoked.json", "--max-list-age", "1h").output
    office.done("revoke", "agent", f"sha256:{digest}", "--reason", "sends mail\x1b[2J", "--by", "bob", *revoke)
    said = office.done("revoke", "agent", digest, "--reason", "again", *revoke)
    assert said.startswith("1 entry, as of ")
    made = office.verify("--revoked", "revoked.json")
    assert made.return_value == 100
    assert "this agent was revoked" in made.output and "\x1b" not in made.output
    assert office.refused("revoke", "--renew", "--key", office.key("bob"), "--list", "revoked.json").code == "not-signed"
    listed = office.done("trust", "agent.yaml", "--key", "release.pub", "--revoked", "revoked.json")
    assert "no certificate of it counts here" in listed
    assert f"agent {digest[:12]}… was revoked" in listed


def test_what_several_revoke_at_once_is_all_revoked(office: Office) -> None:
    command = [sys.executable, "-m", "podctl", "revoke", "--reason", "r", "--key", office.key("bob"), "agent"]
    environment = environment_for({})
    running = [subprocess.Popen([*command, f"{number:064x}"], env=environment, stdout=subprocess.PIPE) for number in range(4)]
    for one in running:
        one.communicate(timeout=60)
    assert [one.returncode for one in running] == [0] * 4
    assert office.done("revoke", "--renew", "--key", office.key("bob")).startswith("4 entries")
    assert [path.name for path in Path(".podctl/trust").iterdir()] == ["revoked.json"]


def test_a_full_list_is_read_and_nothing_is_added_to_it(office: Office) -> None:
    entry = {"kind": "agent", "reason": "r" * 500, "by": "b" * 300, "at": "2025-01-01T00:00:00Z"}
    entries = [{**entry, "id": f"{number:064x}"} for number in range(1, MOST_ENTRIES + 1)]
    document = Revocations.model_validate({"issued": "2025-01-01T00:00:00Z", "entries": entries})
    path = Path(".podctl/trust/revoked.json")
    path.parent.mkdir(parents=True)
    full = seal(document.model_dump(mode="json"), REVOCATIONS, [read_key(office.keys / "bob.pem")])
    path.write_bytes(full)
    office.certify("--out", "c.json")
    asked = office.do(
        "verify", "c.json", "--agent", "agent.yaml", "--key", "release.pub", "--key", "bob.pub", "--revoked", str(path)
    )
    assert asked.return_value == 0 and "with 5,000 entries" in asked.output
    problem = office.refused("revoke", "agent", "0" * 64, "--reason", "r", "--key", office.key("bob"))
    assert problem.code == "list-full"
    assert path.read_bytes() == full


def test_an_entry_for_a_cluster_is_printed_when_all_is_met_and_only_then(office: Office) -> None:
    office.certify("--out", "c.json")
    image = "reg.example.com/first@sha256:" + "ab" * 32
    asked = ("-o", "admission", "--image", image, "--max-age", "7d")
    entry = json.loads(office.verify(*asked).stdout)
    (digest,) = entry["agents"]
    assert digest == agent_digest(load_model(Path("agent.yaml"), Agent)).digest
    assert entry["agents"][digest]["images"] == ["sha256:" + "ab" * 32]
    short = json.loads(office.verify(*asked[:-2], "--max-age", "1d", "--policy", "ladder.yaml", "--level", "low").stdout)
    assert short["agents"][digest]["until"] < entry["agents"][digest]["until"]
    assert short["agents"][digest]["level"] == "low"
    refused = office.do("verify", "c.json", "--agent", "0" * 64, "--key", "release.pub", *asked)
    assert (refused.return_value, refused.stdout) == (100, "")


def test_both_keys_count_while_they_are_changed(office: Office) -> None:
    office.certify("--out", "c.json")
    Path("both.pub").write_text("the old one\n" + Path("ana.pub").read_text() + Path("release.pub").read_text())
    assert office.do("verify", "c.json", "--agent", "agent.yaml", "--key", "both.pub").return_value == 0


def test_a_ladder_of_two_names_with_one_key_is_refused(office: Office) -> None:
    Path("ladder.yaml").write_text(yaml.safe_dump({**LADDER, "people": {"ana": "ana.pub", "bob": "ana.pub"}}))
    office.certify("--out", "c.json")
    assert "the same key" in office.refused("trust", "agent.yaml", "--key", "release.pub", "--policy", "ladder.yaml").what


def test_what_stands_in_the_store_and_is_not_trusted_is_left_out_and_said(office: Office) -> None:
    office.certify()
    directory = Path(".podctl/trust/certificates")
    (directory / "forged.json").write_bytes(sealed(changed(lambda d: facts(d).update(run="\x1b[2J"), certified())))
    (directory / "garbage.json").write_bytes(b"{" * 5000)
    result = office.do("trust", "agent.yaml", "--key", "release.pub")
    assert result.return_value == 0
    assert result.stderr.count("left out: ") == 2
    assert "\x1b" not in result.output
    assert "has level read-only" in result.stdout


def test_a_store_that_machines_share_is_certified_from(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(office.keys.parent / "cache"))
    with serving() as url:
        keep(office.root, run(**of_this_agent(office.root)), url)
        office.certify("--out", "c.json", "--store", url)
        assert office.verify().return_value == 0
        shared = ("--store", url, "--certificate", "c.json")
        office.done(*office.waive(), *shared)
        office.done(*office.promote("ana"), *shared)
        assert "has level high" in office.done(
            "trust", "agent.yaml", "--policy", "ladder.yaml", "--key", "release.pub", *shared
        )
        logged = office.done("audit", "show", "--store", url)
        assert "certificate.made" in logged and "agent.promoted" in logged


def test_a_run_that_failed_is_certified_as_failed(office: Office) -> None:
    failed = run(skill=0.3, **of_this_agent(office.root))
    keep(office.root, replace(failed, info=replace(failed.info, id="r-2", started_ns=START_NS + 10**9)))
    assert office.certify("--out", "c.json").startswith("FAILED  first-agent 1")
    made = office.verify()
    assert made.return_value == 100
    assert "missing    result" in made.output and "FAILED" in made.output
