"""What a chaos campaign plans: each ticket with each fault that can be, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import make_project, ticket

from podctl.controller.run import prepare
from podctl.errors import PodctlError, SpecError
from podctl.runs.chaos import PROFILES, built_in, fitted, from_file, only, vary
from podctl.spec.bundle import Bundle
from podctl.spec.chaos import FAULTS, Chaos
from podctl.spec.load import load_bundle, load_model


def bundle(tmp_path: Path) -> Bundle:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("a"), ticket("b")])
    return load_bundle(project.root / "scenario.yaml")


def test_every_ticket_is_worked_once_more_with_each_fault(tmp_path: Path) -> None:
    one = bundle(tmp_path)
    chaos, notes = fitted(only(built_in("usual"), (), 3), one, "local")
    assert not notes and list(chaos.faults) == list(FAULTS) and chaos.name == "chaos"
    planned = prepare(one, vary=vary(chaos)).planned
    assert len(planned) == 2 * (1 + len(FAULTS))
    varied = [each.variant for each in planned if each.variant is not None]
    assert {each.data["of"] for each in varied} == {"0001-1", "0002-1"} and len({each.seed for each in varied}) == len(varied)
    assert prepare(one, vary=vary(chaos)).campaign == prepare(one, vary=vary(chaos)).campaign
    other = fitted(only(built_in("usual"), (), 4), one, "local")[0]
    assert prepare(one, vary=vary(other)).campaign != prepare(one, vary=vary(chaos)).campaign


def test_what_a_backend_cannot_do_is_said_and_the_campaign_is_only_part_of_itself(tmp_path: Path) -> None:
    one = bundle(tmp_path)
    chaos, notes = fitted(built_in("usual"), one, "docker")
    assert set(FAULTS) - set(chaos.faults) == {"rival", "migration", "clock"} and chaos.name == "chaos-part"
    assert "fault rival was not made: the docker backend cannot do it yet" in notes
    assert only(built_in("usual"), ("latency",), None).name == "chaos-part" and built_in("harsh").name == "chaos-harsh"
    with pytest.raises(SpecError, match="no fault of this campaign"):
        fitted(only(built_in("usual"), ("clock",), None), one, "kubernetes")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{kind: latency, where: [orders]}", "there is no door orders"),
        ("{kind: errors, where: [models]}", "there is no door models"),
        ("{kind: migration, database: other}", "there is no database other"),
    ],
)
def test_a_place_that_is_not_there_is_refused(tmp_path: Path, fault: str, said: str) -> None:
    file = tmp_path / "chaos.yaml"
    file.write_text(f"apiVersion: podctl/v1\nkind: Chaos\nname: c\nfaults: {{x: {fault}}}\n")
    with pytest.raises(SpecError, match=said):
        fitted(load_model(file, Chaos), bundle(tmp_path), "local")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{kind: lateness}", "lateness"),
        ("{kind: latency, share: 2}", "share"),
        ("{kind: errors, statuses: [200]}", "200"),
        ("{kind: stale, hold: 3s}", "hold"),
        ("{kind: broken, how: []}", "how"),
    ],
)
def test_mistakes_in_a_file_are_said_with_their_place(tmp_path: Path, fault: str, said: str) -> None:
    file = tmp_path / "chaos.yaml"
    file.write_text(f"apiVersion: podctl/v1\nkind: Chaos\nname: c\nfaults:\n  x: {fault}\n")
    with pytest.raises(PodctlError) as refused:
        load_model(file, Chaos)
    assert said in refused.value.render() and "chaos.yaml:5" in refused.value.render(), refused.value.render()


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_whole(profile: str) -> None:
    assert list(built_in(profile).faults) == list(FAULTS)


def test_a_file_may_not_pass_for_podctls_own_campaign(tmp_path: Path) -> None:
    file = tmp_path / "chaos.yaml"
    file.write_text("apiVersion: podctl/v1\nkind: Chaos\nname: chaos\nfaults: {x: {kind: latency}}\n")
    with pytest.raises(SpecError, match="podctl's own campaign"):
        from_file(file)
    with pytest.raises(SpecError, match="there is no fault lateness"):
        only(built_in("usual"), ("lateness",), None)
