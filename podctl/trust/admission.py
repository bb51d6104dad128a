"""The entry by which a cluster admits an agent's images, for a certificate that was found to be enough (manifests/admission). PURE."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.safe import printable
from podctl.trust.certificate import Certificate
from podctl.trust.moments import moment

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,511}@(sha256:[0-9a-f]{64})")


def entry(certificate: Certificate, images: Sequence[str], max_age_s: float | None, level: str = "") -> dict[str, Any]:
    """A CertifiedAgents object with this agent alone, for a server-side apply. ``max_age_s``: the shortest that was asked, since the run's end.

    Raises `SpecError` for an image that is not named by its digest, and without an age: what is admitted has to end.
    """
    if max_age_s is None:
        raise SpecError(
            "nothing was said of how old the run may be: what a cluster admits has to end",
            code="no-end",
            unchanged="no entry was printed",
            hint="--max-age 30d, or --level of a ladder that says max_age",
        )
    digests = []
    for image in images:
        found = _IMAGE.fullmatch(image)
        if found is None:
            raise SpecError(
                f"the image {printable(image)} is not named by its digest",
                code="no-image-digest",
                unchanged="no entry was printed",
                hint="REGISTRY/NAME@sha256:…, as the registry said when it was pushed: a tag may mean another image tomorrow",
            )
        digests.append(found[1])
    agent = certificate.agent
    told = {
        "name": f"{agent.name}@{agent.version}",
        "certificate": certificate.digest,
        **({"level": level} if level else {}),
        "until": moment(certificate.ended_s + max_age_s),
        "images": sorted(set(digests)),
    }
    return {
        "apiVersion": "podctl.dev/v1",
        "kind": "CertifiedAgents",
        "metadata": {"name": "certified"},
        "agents": {agent.digest: told},
    }


def admission(certificate: Certificate, images: Sequence[str], max_age_s: float | None, level: str = "") -> str:
    """`entry` as JSON."""
    return json.dumps(entry(certificate, images, max_age_s, level), indent=2)
