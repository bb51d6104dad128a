"""The comment on a pull request, against a server that speaks GitHub's shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from github_comments import TOKEN, GitHub, github

from podctl.ci.comments import AUTHOR, Conversation, MayNotComment
from podctl.errors import EnvironmentProblem, SpecError

MARK = "<!-- podctl:ci-podctl -->"


@pytest.fixture
def server() -> Iterator[GitHub]:
    with github() as state:
        yield state


def conversation(server: GitHub, **changes: str) -> Conversation:
    environment = {
        "GITHUB_API_URL": server.url,
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_TOKEN": TOKEN,
    }
    found = Conversation.of({**environment, **changes}, None)
    assert found is not None
    return found


def put(server: GitHub, text: str, *, only_replace: bool = False) -> str:
    return conversation(server).put(f"{MARK}\n{text}", MARK, AUTHOR, only_replace=only_replace)


def test_a_comment_is_made_once_and_then_replaced(server: GitHub) -> None:
    server.comment("somebody", "hello")
    assert put(server, "one") == "commented"
    assert put(server, "two") == "replaced the comment"
    assert put(server, "two") == "the comment says so already"
    assert [comment["body"] for comment in server.comments] == ["hello", f"{MARK}\ntwo"]
    assert [line.split()[0] for line in server.asked] == ["GET", "POST", "GET", "PATCH", "GET"]


def test_it_is_found_on_a_later_page(server: GitHub) -> None:
    for number in range(250):
        server.comment("somebody", f"remark {number}")
    put(server, "one")
    server.asked.clear()
    assert put(server, "two") == "replaced the comment"
    assert len(server.comments) == 251
    assert [line.rpartition("=")[2] for line in server.asked[:-1]] == ["1", "2", "3"]


def test_what_others_wrote_is_left_alone_also_with_the_marker(server: GitHub) -> None:
    server.comment("mallory", f"{MARK}\nall passed")
    server.comment(AUTHOR, "another tool's")
    assert put(server, "failed") == "commented"
    assert [comment["body"] for comment in server.comments[:2]] == [f"{MARK}\nall passed", "another tool's"]


def test_nothing_to_say_makes_no_comment_but_replaces_one(server: GitHub) -> None:
    assert "nothing to say" in put(server, "nothing", only_replace=True)
    assert server.comments == []
    put(server, "failed")
    assert put(server, "nothing", only_replace=True) == "replaced the comment"


def test_a_token_that_may_only_read_is_told_apart(server: GitHub) -> None:
    server.read_only = True
    with pytest.raises(MayNotComment, match="Resource not accessible by integration"):
        put(server, "one")


def test_reading_is_tried_again_and_writing_is_not(server: GitHub) -> None:
    server.broken = 1
    assert put(server, "one") == "commented"
    server.broken = 0
    server.redirect = "http://127.0.0.1:1/elsewhere"
    with pytest.raises(EnvironmentProblem, match="could not be commented on") as refused:
        put(server, "two")
    assert "302" in refused.value.cause


def test_the_token_is_in_no_error(server: GitHub) -> None:
    with pytest.raises(EnvironmentProblem) as refused:
        conversation(server, GITHUB_TOKEN="ghs_wrong").put("x", "x", AUTHOR, only_replace=False)
    assert "Bad credentials" in refused.value.cause
    assert "ghs_wrong" not in refused.value.render()


@pytest.mark.parametrize("url", ["http://api.example.org", "ftp://127.0.0.1", "", "http://127.0.0.1.example.org"])
def test_the_token_is_not_sent_where_others_can_read_it(server: GitHub, url: str) -> None:
    with pytest.raises(SpecError) as refused:
        conversation(server, GITHUB_API_URL=url)
    assert refused.value.code == "ci-no-repository"


def test_without_a_pull_request_there_is_nothing_to_comment_on(server: GitHub) -> None:
    assert Conversation.of({"GITHUB_REF": "refs/heads/main", "GITHUB_TOKEN": TOKEN}, None) is None
    with pytest.raises(SpecError) as refused:
        conversation(server, GITHUB_TOKEN="")
    assert refused.value.code == "ci-no-token"
    with pytest.raises(SpecError):
        conversation(server, GITHUB_REPOSITORY="acme/shop/../../other")
