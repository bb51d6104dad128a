"""Evidence packs of a run that is in a store: made, signed, checked offline, tampered with."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from certified import keep, of_this_agent, run
from click.testing import CliRunner, Result

from podctl.cli.main import podctl
from podctl.controller.run import printed_settings
from podctl.errors import PodctlError
from podctl.evidence.results import FidelityPart
from podctl.signing import make_key
from podctl.spec.load import load_bundle
from podctl.spec.resolved import boundary_digest, part_digests
from podctl.spec.scaffold import scaffold


def do(*arguments: str) -> Result:
    return CliRunner().invoke(podctl, [*arguments], standalone_mode=False)


def done(*arguments: str) -> str:
    result = do(*arguments)
    assert result.exception is None, result.exception
    assert result.return_value == 0, result.output
    return result.output


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project with a run of its agent, and a key outside of it; its path."""
    root = tmp_path / "p"
    scaffold(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PODCTL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("PODCTL_SIGNING_KEY", raising=False)
    path = tmp_path / "keys" / "release.pem"
    (root / "release.pub").write_text(make_key(path).public.pem)
    made = run(**of_this_agent(root), fidelity=(FidelityPart("clock", None, {}),))
    settings = {**made.info.settings, "scenario": "scenario.yaml"}
    keep(root, replace(made, info=replace(made.info, settings=settings)))
    return str(path)


def lines(result: Result) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in result.output.splitlines():
        state, name, detail = (part.strip() for part in (line[:9], line[11:22], line[22:]))
        if name not in found or found[name][0] == "ok":
            found[name] = (state, detail)
    return found


def test_a_pack_is_signed_and_shows_itself_to_be_whole(key: str) -> None:
    done("certify", "latest", "--key", key)
    said = done("evidence-pack", "latest", "-o", "p.zip", "--key", key)
    assert "signed with key" in said
    told = do("evidence-pack", "verify", "p.zip", "--key", "release.pub")
    assert told.return_value == 0
    assert {name: state for name, (state, _) in lines(told).items()} == {
        "files": "ok",
        "signature": "ok",
        "audit log": "ok",
        "certificate": "ok",
        "evidence": "not shown",
    }
    done("evidence-pack", "latest", "-o", "q", "--key", key)
    assert done("evidence-pack", "verify", "q", "--key", "release.pub") == told.output
    again = Path("p.zip").read_bytes()
    done("evidence-pack", "latest", "-o", "r.zip", "--key", key)
    assert Path("r.zip").read_bytes() == again
    with zipfile.ZipFile("p.zip") as archive:
        review = json.loads(archive.read("security-review.json"))
        page = archive.read("security-review.md").decode()
        sbom = json.loads(archive.read("sbom.json"))
    assert {one["name"]: one["state"] for one in review["answers"]}["approved"] == "partly"  # certified, and nobody promoted it
    assert "- **missing:** nobody promoted this agent digest" in page
    assert "| Signature | |" in page
    assert [one["name"] for one in sbom["components"]] == ["agent.py"]
    assert sbom["components"][0]["hashes"][0]["alg"] == "SHA-256"


def test_what_is_not_known_is_missing_and_never_left_out(key: str) -> None:
    said = done("evidence-pack", "latest", "-o", "p")
    assert "missing  Who approved this agent?" in said
    assert "missing  Which data did it see?" in said
    assert "not signed: there is no key" in said
    told = lines(do("evidence-pack", "verify", "p"))
    assert (told["signature"][0], told["certificate"][0]) == ("not shown", "not shown")
    Path("agent/agent.py").write_text("# another")
    assert "its files cannot be listed" in done("evidence-pack", "latest", "-o", "q")
    assert not Path("q/sbom.json").exists()


def edited(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(pack: Path) -> None:
        text = (pack / name).read_text()
        assert change(text) != text
        (pack / name).write_text(change(text))

    return edit


def relisted(pack: Path) -> None:
    """Somebody without the key who writes the list anew as well."""
    import hashlib

    (pack / "security-review.md").write_text("all is well")
    files = {
        path.relative_to(pack).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pack.rglob("*")
        if path.is_file()
    }
    del files["manifest.json"]
    run_id = json.loads((pack / "security-review.json").read_text())
    body = {"format": "podctl evidence pack 1", "run": run_id["run"], "agent": run_id["agent"]["digest"], "files": files}
    (pack / "manifest.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (
            edited("security-review.md", lambda text: text.replace("**missing:**", "")),
            "files",
            "security-review.md was changed",
        ),
        (
            edited("audit/entries.jsonl", lambda text: "".join(text.splitlines(True)[1:])),
            "audit log",
            "does not follow the one before it",
        ),
        (edited("audit/entries.jsonl", lambda text: text.replace("passed", "passes", 1)), "audit log", "changed or made up"),
        (edited("security-review.json", lambda text: text.replace('"root": "', '"root": "0', 1)), "audit log", "another root"),
        (lambda pack: (pack / "boundary.json").unlink(), "files", "boundary.json is not there"),
        (lambda pack: (pack / "more.txt").write_text("x"), "files", "more.txt was added"),
        (relisted, "signature", "by none of the keys"),
    ],
    ids=["page", "entry dropped", "entry changed", "root", "gone", "added", "listed anew"],
)
def test_whatever_is_changed_is_named(key: str, change: Callable[[Path], None], name: str, told: str) -> None:
    done("evidence-pack", "latest", "-o", "p", "--key", key)
    change(Path("p"))
    result = do("evidence-pack", "verify", "p", "--key", "release.pub")
    assert result.return_value == 3
    state, detail = lines(result)[name]
    assert state == "wrong"
    assert told in "".join(result.output)
    assert detail


def test_with_its_evidence_every_record_is_checked(key: str) -> None:
    done("evidence-pack", "latest", "-o", "p", "--evidence", "--key", key)
    told = do("evidence-pack", "verify", "p", "--key", "release.pub")
    assert (told.return_value, lines(told)["evidence"][0]) == (0, "ok")
    Path("p/evidence.tar").write_bytes(b"no tar")
    told = do("evidence-pack", "verify", "p", "--key", "release.pub")
    assert (told.return_value, lines(told)["evidence"][0]) == (3, "wrong")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"[" * 100_000, b"\0" * 100], ids=["empty", "cut", "deep", "zeros"])
def test_whatever_is_given_as_a_pack_is_answered(key: str, content: bytes) -> None:
    Path("x.zip").write_bytes(content)
    result = do("evidence-pack", "verify", "x.zip")
    assert isinstance(result.exception, PodctlError)
    assert result.exception.code == "pack-damaged"
    done("evidence-pack", "latest", "-o", "p")
    (Path("p") / "manifest.json").write_bytes(content)
    result = do("evidence-pack", "verify", "p")
    assert isinstance(result.exception, PodctlError)


def test_nothing_leads_out_of_a_pack(key: str, tmp_path: Path) -> None:
    done("evidence-pack", "latest", "-o", "p")
    secret = tmp_path / "secret"
    secret.write_text("x")
    (Path("p") / "sbom.json").unlink()
    (Path("p") / "sbom.json").symlink_to(secret)
    assert isinstance(do("evidence-pack", "verify", "p").exception, PodctlError)
    shutil.rmtree("p")
    with zipfile.ZipFile("z.zip", "w") as archive:
        archive.writestr(
            "manifest.json",
            json.dumps({"format": "podctl evidence pack 1", "run": "r", "agent": "a", "files": {"../x": "0" * 64}}),
        )
    assert isinstance(do("evidence-pack", "verify", "z.zip").exception, PodctlError)


def data_answer(pack: str) -> tuple[str, list[str]]:
    review = json.loads((Path(pack) / "security-review.json").read_text())
    [told] = [one for one in review["answers"] if one["name"] == "data"]
    return told["state"], [*told["answer"], *told["missing"]]


@pytest.mark.parametrize(
    ("are", "state", "told"),
    [
        (
            "synthetic",
            "answered",
            "rows stated to be made up (by ana\\x1b[2J, in topology.yaml; nothing proves it): a script makes them",
        ),
        ("real", "missing", "rows stated to be production's as they are, not masked (by"),
    ],
)
def test_what_the_topology_says_of_its_data_is_told_as_somebody_s_word(key: str, are: str, state: str, told: str) -> None:
    topology = yaml.safe_load(Path("topology.yaml").read_text())
    topology["databases"]["shop-db"]["seed"]["data"] = {"are": are, "by": "ana\x1b[2J", "reason": "a script makes them"}
    Path("topology.yaml").write_text(yaml.safe_dump(topology))
    bundle = load_bundle(Path("scenario.yaml"))
    digests = {"topology": part_digests(bundle)["topology"], "boundary": boundary_digest(bundle.boundary)}
    keep(Path(), run(**{**of_this_agent(Path()), "id": "run-2", "digests": digests, "settings": printed_settings(bundle)}))
    done("evidence-pack", "run-2", "-o", "p")
    found, lines = data_answer("p")
    assert found == state and len(lines) == 1 and told in lines[0], lines
    Path("topology.yaml").write_text(Path("topology.yaml").read_text().replace("by: ", "by: not "))
    done("evidence-pack", "run-2", "-o", "q")
    found, lines = data_answer("q")
    assert any("cannot be looked at" in line for line in lines)
    assert any(told[:30] in line for line in lines), "what the run was made with is what counts"


def test_a_key_in_a_label_stops_the_pack(key: str) -> None:
    boundary = yaml.safe_load(Path("boundary.yaml").read_text())
    keep(
        Path(),
        run(
            **{
                **of_this_agent(Path()),
                "id": "run-2",
                "settings": {"boundary_spec": {**boundary, "services": {"AKIAABCDEFGHIJKLMNOP": "read"}}},
            }
        ),
    )
    result = do("evidence-pack", "run-2", "-o", "p.zip")
    assert isinstance(result.exception, PodctlError)
    assert result.exception.code == "pack-secret"
    assert not Path("p.zip").exists()
