"""podctl boundary, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from podctl.cli.main import podctl
from podctl.errors import SpecError

SHOP = str(Path(__file__).parents[2] / "fixtures" / "shop" / "boundary.yaml")


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(podctl, ["boundary", *arguments], standalone_mode=False)


def test_explain_names_the_rule_its_line_and_the_exception() -> None:
    done = typed("explain", SHOP, "POST payments-api /refunds", "-o", "json")
    (answer,) = json.loads(done.output)["items"]
    assert answer["level"] == "ai-writable" and answer["at"].endswith("boundary.yaml:19")
    assert "a person decides" in answer["exceptions"][0]
    refused = typed("explain", SHOP, "nonsense")
    assert isinstance(refused.exception, SpecError) and "DATABASE.TABLE" in refused.exception.hint


def test_diff_exits_with_1_only_when_something_opens(tmp_path: Path) -> None:
    less = tmp_path / "less.yaml"
    less.write_text(Path(SHOP).read_text().replace("    POST /orders/{number}/cancel: ai-writable\n", ""))
    opening, closing = typed("diff", str(less), SHOP, "--fail-on-open"), typed("diff", SHOP, str(less), "--fail-on-open")
    assert opening.return_value == 1 and "opens   POST orders-api" in opening.output
    assert closing.return_value == 0 and "closes  POST orders-api" in closing.output
    same = typed("diff", SHOP, SHOP)
    assert same.return_value == 0 and same.output == "nothing is decided otherwise\n"


@pytest.mark.parametrize(
    ("target", "said"), [("sql", 'GRANT UPDATE ("status"'), ("cedar", "permit ("), ("kubernetes", "no rule")]
)
def test_compile(target: str, said: str) -> None:
    assert said in typed("compile", SHOP, "--to", target).output
