"""The manifests agree with what podctl asks for and with what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from podctl.backends.kubernetes.api import KINDS
from podctl.backends.kubernetes.check import RIGHTS
from podctl.backends.kubernetes.install import NO_IMAGE, with_image
from podctl.cli.install import OVERLAYS

ROOT = Path(__file__).parents[3]
Rights = set[tuple[str, str, str]]
#: By it the policies know podctl's accounts; the API has no such resource.
MARK = ("podctl.dev", "testpods", "run")


def rendered(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "manifests" / "rendered" / f"{overlay}.yaml").read_text()))


def role(name: str, overlay: str = "existing-postgres") -> Rights:
    """(group, resource, verb) of a role."""
    found = [one for one in rendered(overlay) if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] == name]
    return {
        (group, resource, verb)
        for one in found
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked() -> Rights:
    """What the doctor asks for."""
    found = set()
    for what, verbs in RIGHTS.items():
        kind, _, subresource = what.partition("/")
        version, plural, _ = KINDS.get(kind, ("v1", kind, True))
        resource = f"{plural}/{subresource}" if subresource else plural
        found |= {(version.rpartition("/")[0], resource, verb) for verb in verbs}
    return found


def in_the_table() -> set[tuple[str, str]]:
    """(resource, verb) of the table in docs/rights.md; ``x (also get)`` in a row gives x one verb more."""
    section = (ROOT / "docs" / "rights.md").read_text().partition("## A runner")[2].partition("\n## ")[0]
    found = set()
    for line in re.findall(r"^\| (?!resource|-)(.*) \|$", section, re.MULTILINE):
        resources, verbs, *_ = line.split(" | ")
        for resource, more in re.findall(r"([a-z/]+)(?: \(also ([a-z]+)\))?(?:, |$)", resources):
            found |= {(resource, verb) for verb in [*verbs.split(", "), *([more] if more else [])]}
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_role_the_doctor_and_the_page_agree(overlay: str) -> None:
    assert role("podctl-runner", overlay) - asked() == {MARK}
    assert asked() - role("podctl-runner", overlay) == set()
    assert in_the_table() == {(resource, verb) for _, resource, verb in asked()}


def test_no_role_has_everything() -> None:
    for overlay in OVERLAYS:
        for one in rendered(overlay):
            if one["kind"] in ("Role", "ClusterRole"):
                assert "*" not in str(one["rules"]), one["metadata"]["name"]


def test_an_image_is_named_wherever_one_is_needed() -> None:
    for overlay in ("existing-postgres", "with-postgres"):
        named = with_image(rendered(overlay), "registry.example/mine:1")
        text = yaml.safe_dump_all(named)
        assert NO_IMAGE not in text and "unset" not in text
        assert text.count("registry.example/mine:1") == {"existing-postgres": 2, "with-postgres": 3}[overlay]
    assert with_image(rendered("ci"), "x") == rendered("ci")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_installed_can_be_found_again(overlay: str) -> None:
    for one in rendered(overlay):
        assert one["kind"] in KINDS, one["kind"]
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "podctl", one["metadata"]["name"]
        assert ("namespace" in one["metadata"]) == KINDS[one["kind"]][2]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_policy_is_in_force_and_fails_closed(overlay: str) -> None:
    there = rendered(overlay)
    policies = {one["metadata"]["name"]: one["spec"] for one in there if one["kind"] == "ValidatingAdmissionPolicy"}
    bound = {one["spec"]["policyName"]: one["spec"] for one in there if one["kind"] == "ValidatingAdmissionPolicyBinding"}
    assert set(bound) == set(policies) and policies
    assert all(spec["failurePolicy"] == "Fail" for spec in policies.values())
    assert all("Deny" in spec["validationActions"] and "matchResources" not in spec for spec in bound.values())
