"""One comment on a pull request that later runs replace, by GitHub's REST API (issue comments) with the job's own token."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from podctl.errors import EnvironmentProblem, SpecError
from podctl.spec.problems import printable

#: Who a job's own token writes as.
AUTHOR = "github-actions[bot]"
_PAGE = 100
_MOST_PAGES = 100
_WAIT_S = 20.0
_PAUSES_S = (1.0, 3.0)
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_UNCHANGED = "the verdict is not touched: it is in the job's summary and artifacts"


class MayNotComment(Exception):
    """The token may read and not write, as that of a pull request from a fork."""


@dataclass(frozen=True)
class Conversation:
    """A pull request's comments."""

    url: str  # of the API
    repository: str
    number: int
    token: str

    @staticmethod
    def of(environment: Mapping[str, str], number: int | None) -> Conversation | None:
        """From what a job's environment says; None where it is none of a pull request. Raises `SpecError`."""
        url, repository = environment.get("GITHUB_API_URL", ""), environment.get("GITHUB_REPOSITORY", "")
        ref = re.fullmatch(r"refs/pull/(\d+)/(merge|head)", environment.get("GITHUB_REF", ""))
        number = number or (int(ref[1]) if ref else None)
        token = environment.get("GITHUB_TOKEN", "")
        if number is None:
            return None
        if not token:
            raise SpecError(
                "there is no GITHUB_TOKEN to comment with",
                code="ci-no-token",
                unchanged=_UNCHANGED,
                hint="give the step env: GITHUB_TOKEN: ${{ github.token }}, and the job permissions: pull-requests: write",
            )
        if not _REPOSITORY.fullmatch(repository) or not _is_safe(url):
            raise SpecError(
                "GITHUB_API_URL and GITHUB_REPOSITORY do not say where to comment",
                code="ci-no-repository",
                cause=f"GITHUB_API_URL={printable(url, 100)} GITHUB_REPOSITORY={printable(repository, 100)}",
                unchanged=_UNCHANGED,
            )
        return Conversation(url.rstrip("/"), repository, number, token)

    def put(self, text: str, marker: str, author: str, *, only_replace: bool) -> str:
        """Replace ``author``'s comment that begins with ``marker``, or add one; what was done, in words.

        ``only_replace``: add none. Raises `MayNotComment`, and `EnvironmentProblem` when GitHub cannot be asked.
        """
        found = next((one for one in self._comments() if _is_ours(one, marker, author)), None)
        if found is None and only_replace:
            return "there is nothing to say, and no comment that says otherwise"
        if found is None:
            self._ask("POST", f"issues/{self.number}/comments", {"body": text})
            return "commented"
        if found.get("body") == text:
            return "the comment says so already"
        self._ask("PATCH", f"issues/comments/{int(found['id'])}", {"body": text})
        return "replaced the comment"

    def _comments(self) -> Iterator[dict[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            answer = self._ask("GET", f"issues/{self.number}/comments?per_page={_PAGE}&page={page}")
            try:
                listed = answer.json()
            except ValueError as error:
                raise _failed("its answer is no JSON") from error
            if not isinstance(listed, list):
                raise _failed("its answer is no list of comments")
            yield from (one for one in listed if isinstance(one, dict))
            if "next" not in answer.links:
                return

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> requests.Response:
        """What is asked twice is only what changes nothing."""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        for pause in (*(_PAUSES_S if method == "GET" else ()), None):
            try:
                # No redirect is followed: the token is for this address alone.
                answer = requests.request(
                    method,
                    f"{self.url}/repos/{self.repository}/{path}",
                    json=body,
                    headers=headers,
                    timeout=_WAIT_S,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                if pause is None:
                    raise _failed(type(error).__name__) from error
            else:
                if answer.status_code in (403, 404) and method != "GET":
                    raise MayNotComment(_said(answer))
                if answer.ok and answer.status_code < 300:
                    return answer
                if pause is None or answer.status_code < 500:
                    raise _failed(f"HTTP {answer.status_code}: {_said(answer)}")
            time.sleep(pause)
        raise AssertionError("unreachable")


def _is_ours(comment: Mapping[str, Any], marker: str, author: str) -> bool:
    """Anybody may write the marker into a comment of theirs; what others wrote is left alone."""
    user = comment.get("user")
    login = user.get("login") if isinstance(user, dict) else None
    return login == author and str(comment.get("body", "")).startswith(marker)


def _is_safe(url: str) -> bool:
    """Nobody else reads the token on its way."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _said(answer: requests.Response) -> str:
    try:
        message = answer.json().get("message", "")
    except (ValueError, AttributeError):
        message = ""
    return printable(str(message), 200) or "no reason given"


def _failed(cause: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        "the pull request could not be commented on", code="ci-comment", cause=printable(cause, 300), unchanged=_UNCHANGED
    )
