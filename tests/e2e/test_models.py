"""Model calls of unmodified clients from inside a pod: metered, budgeted, recorded and replayed."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from project import Project, make_project, ticket

from podctl.evidence.causes import Cause

QUESTIONS = [f"question {n}" for n in range(4)]
CHUNKS = ["Hel", "lo ", "pod"]
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 10},
}
#: Per million: 100 input, 20 cached, 20 output and 10 reasoning tokens.
DOLLARS = (Decimal(100) * 2 + Decimal(20) * 1 + Decimal(30) * 8) / 1_000_000

AGENT = r"""
import json, os, openai
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
client = openai.OpenAI()
text = ""
for chunk in client.chat.completions.create(
    model="house-model", max_tokens=100, stream=True, messages=[{"role": "user", "content": ticket["text"]}]
):
    text += chunk.choices[0].delta.content or ""
json.dump({"status": "done", "output": {"text": text}}, open("result.json", "w"))
"""


#: The same without a client, which takes a second to import.
PLAIN_AGENT = r"""
import json, os, urllib.request
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
asked = {"model": "house-model", "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": ticket["text"]}]}
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
url = os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions"
with urllib.request.urlopen(urllib.request.Request(url, json.dumps(asked).encode(), headers)) as answer:
    events = [json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]
text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
json.dump({"status": "done", "output": {"text": text}}, open("result.json", "w"))
"""


class Provider(BaseHTTPRequestHandler):
    """An OpenAI-compatible server: streams three chunks, then what they cost."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, Any]]
    #: Question -> how often it is refused before it is answered.
    away: dict[str, int]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).seen.append({"key": self.headers["authorization"], "body": body})
        question = body["messages"][0]["content"]
        if self.away.get(question, 0) > 0:
            self.away[question] -= 1
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "house-model"}
        events: list[dict[str, Any]] = [{**base, "choices": [{"index": 0, "delta": {"content": part}}]} for part in CHUNKS]
        events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({**base, "choices": [], "usage": USAGE})
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def provider() -> Any:
    Provider.seen, Provider.away = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def project_for(root: Path, port: int, *, agent: str = AGENT, texts: Sequence[str] = QUESTIONS, **model: Any) -> Project:
    return make_project(
        root,
        agent=agent,
        tickets=[ticket(f"t{n}", text) for n, text in enumerate(texts)],
        scenario={
            "gate": {"pass_rate": 1.0},
            "checks": [{"kind": "state"}, {"kind": "output", "name": "text", "path": "output.text", "equals": "Hello pod"}],
            "model": {
                "mode": "live",
                "openai_url": f"http://127.0.0.1:{port}/v1",
                "openai_key_env": "HOUSE_KEY",
                "prices": {"house-model": {"input": 2, "cache_read": 1, "output": 8}},
                **model,
            },
        },
    )


KEY = {"HOUSE_KEY": "sk-real-key-4e1f7a"}


def test_tokens_and_dollars_are_what_the_server_said(tmp_path: Path, provider: Any) -> None:
    project = project_for(tmp_path / "p", provider.server_port)
    finished = project.podctl("run", "scenario.yaml", "-q", **KEY)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    result = project.run()
    for attempt in result.attempts:
        assert attempt.tokens.to_json() == {"input": 100, "cache_read": 20, "cache_write": 0, "output": 20, "reasoning": 10}
        assert attempt.dollars == DOLLARS
        (used,) = attempt.models or ()
        assert (used.model, used.calls, used.unknown, used.tokens, used.dollars) == (
            "house-model",
            1,
            0,
            attempt.tokens,
            DOLLARS,
        )
        assert (used.largest_input, used.long_cache_write) == (120, 0)
    assert result.spent_dollars == 4 * DOLLARS
    assert {entry["key"] for entry in Provider.seen} == {"Bearer sk-real-key-4e1f7a"}
    kept = [path for path in project.store.rglob("*") if path.is_file()]
    assert all(b"sk-real-key-4e1f7a" not in path.read_bytes() for path in kept), "the real key was written down"


@pytest.mark.campaign
def test_a_lock_prices_a_run_and_an_old_run(tmp_path: Path, provider: Any) -> None:
    project = project_for(
        tmp_path / "p", provider.server_port, agent=PLAIN_AGENT, texts=QUESTIONS[:1], prices={}, price_lock="prices.lock"
    )
    prices = "apiVersion: podctl/v1\nkind: Prices\nmodels:\n  house-model: {price: {input: 4, cache_read: 2, output: 16}}\n"
    (project.root / "prices.yaml").write_text(prices)
    missing = project.podctl("run", "scenario.yaml", "-q", **KEY)
    assert missing.returncode == 2 and "prices.lock" in missing.stderr
    assert project.podctl("prices", "lock", "prices.yaml").returncode == 0
    finished = project.podctl("run", "scenario.yaml", "-q", **KEY)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (attempt,) = project.run().attempts
    assert attempt.dollars == 2 * DOLLARS
    assert [use.price_source.split()[:2] for use in attempt.models or ()] == [["price", "lock"]]
    (project.root / "cheaper.yaml").write_text(prices.replace("input: 4", "input: 0").replace("output: 16", "output: 0"))
    again = json.loads(project.podctl("reprice", "--prices", "cheaper.yaml", "-o", "json").stdout)["items"][0]
    assert Decimal(again["before"]) == 2 * DOLLARS
    assert Decimal(again["total"]["paid"]) == Decimal(40) / 1_000_000
    assert Decimal(again["total"]["uncached"]) == 0
    refused = project.podctl("reprice")
    assert refused.returncode == 2 and "house-model" in refused.stderr


def test_without_a_price_nothing_is_called(tmp_path: Path, provider: Any) -> None:
    project = project_for(tmp_path / "p", provider.server_port, agent=PLAIN_AGENT, prices={})
    finished = project.podctl("run", "scenario.yaml", "-q", "--sample", "1", **KEY)
    assert finished.returncode == 100
    assert Provider.seen == []
    assert "model.prices" in (project.records(project.run().attempts[0].ticket, "gateway.refused")[0]["data"]["reason"])


def test_a_budget_is_held_before_the_call(tmp_path: Path, provider: Any) -> None:
    project = project_for(tmp_path / "p", provider.server_port, agent=PLAIN_AGENT)
    text = (project.root / "scenario.yaml").read_text()
    (project.root / "scenario.yaml").write_text(text.replace("wall: 20s", "wall: 20s\n  dollars: 0.0001"))
    finished = project.podctl("run", "scenario.yaml", "-q", "--sample", "1", **KEY)
    assert finished.returncode == 100, finished.stdout + finished.stderr
    assert project.run().attempts[0].cause is Cause.AGENT_EXHAUSTED_BUDGET
    assert Provider.seen == []


@pytest.mark.campaign
def test_a_shard_spends_its_share_of_the_runs_budget_and_no_more(tmp_path: Path, provider: Any) -> None:
    """The budget is enough for one ticket's call, and a quarter of it is not."""
    project = project_for(tmp_path / "p", provider.server_port, agent=PLAIN_AGENT)
    text = (project.root / "scenario.yaml").read_text()
    (project.root / "scenario.yaml").write_text(text.replace("wall: 20s", "wall: 20s\n  run_dollars: 0.0012"))
    shard = project.podctl("run", "scenario.yaml", "-q", "--shard", "1/4", **KEY)
    assert shard.returncode == 0, shard.stdout + shard.stderr
    assert "the run's budget was spent before every attempt was made" in project.run().notes
    assert Provider.seen == []
    project.podctl("run", "scenario.yaml", "-q", "--sample", "1", **KEY)
    assert len(Provider.seen) == 1


@pytest.mark.campaign
def test_a_provider_that_is_away_is_no_fault_of_the_agent(tmp_path: Path, provider: Any) -> None:
    once = AGENT.replace("OpenAI()", "OpenAI(max_retries=0)")
    project = project_for(tmp_path / "p", provider.server_port, agent=once)
    Provider.away = {"question 1": 3, "question 2": 1000}
    finished = project.podctl("run", "scenario.yaml", "-q", **KEY)
    attempts = project.attempts()
    assert {ticket: (attempts[ticket].cause, attempts[ticket].tries) for ticket in attempts} == {
        "t0": (Cause.COMPLETED, 1),
        "t1": (Cause.COMPLETED, 2),
        "t2": (Cause.MODEL_PROVIDER_FAILED, 3),
        "t3": (Cause.COMPLETED, 1),
    }
    assert attempts["t2"].detail.startswith(
        "1 model call failed at the provider; then: exit code 1: openai.InternalServerError"
    )
    assert "infrastructure ended 1 of 4 attempts" in finished.stdout and finished.returncode == 3
    assert project.run().spent_dollars == 3 * DOLLARS


#: Guesses what its ticket says where its model fails.
LENIENT = """
import json, os, openai
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
ask = [{"role": "user", "content": ticket["text"]}]
try:
    chunks = openai.OpenAI(max_retries=0).chat.completions.create(model="house-model", max_tokens=9, stream=True, messages=ask)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
except openai.OpenAIError:
    text = ticket["text"]
json.dump({"status": "done", "output": {"text": text}}, open("result.json", "w"))
"""


@pytest.mark.campaign
def test_what_an_agent_makes_of_a_failed_call_counts_only_when_it_is_right(tmp_path: Path, provider: Any) -> None:
    project = project_for(tmp_path / "p", provider.server_port, agent=LENIENT, texts=["Hello pod", "a wrong guess"])
    Provider.away = {"Hello pod": 1000, "a wrong guess": 1000}
    project.podctl("run", "scenario.yaml", "-q", **KEY)
    right, wrong = (project.attempts()[ticket] for ticket in ("t0", "t1"))
    assert (right.cause, right.passed) == (Cause.COMPLETED, True)
    assert (wrong.cause, wrong.passed, wrong.tries) == (Cause.MODEL_PROVIDER_FAILED, False, 3)
    assert wrong.detail == "1 model call failed at the provider; then: finished, with the wrong result"


@pytest.mark.campaign
def test_a_recorded_run_repeats_with_the_provider_gone(tmp_path: Path, provider: Any) -> None:
    project = project_for(
        tmp_path / "p", provider.server_port, agent=PLAIN_AGENT, texts=QUESTIONS[:2], mode="record", recordings="recordings"
    )
    assert project.podctl("run", "scenario.yaml", "-q", **KEY).returncode == 0
    recorded = project.run()
    provider.shutdown()
    calls = len(Provider.seen)
    text = (project.root / "scenario.yaml").read_text()
    (project.root / "scenario.yaml").write_text(text.replace("mode: record", "mode: replay"))
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    replayed = project.run()
    assert len(Provider.seen) == calls
    assert [(a.id, a.tokens, a.dollars) for a in replayed.attempts] == [(a.id, a.tokens, a.dollars) for a in recorded.attempts]


@pytest.mark.campaign
def test_opentelemetry_and_anthropic_clients_work_as_they_are(tmp_path: Path) -> None:
    agent = r"""
import json, os, anthropic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
with trace.get_tracer("agent").start_as_current_span("execute_tool lookup") as span:
    span.set_attribute("gen_ai.operation.name", "execute_tool")
    span.set_attribute("gen_ai.tool.name", "lookup")
    reply = anthropic.Anthropic().messages.create(
        model="scripted-helper", max_tokens=50, messages=[{"role": "user", "content": "please answer"}]
    )
provider.shutdown()
json.dump({"status": "done", "output": {"text": reply.content[0].text}}, open("result.json", "w"))
"""
    project = make_project(
        tmp_path / "p",
        agent=agent,
        tickets=[ticket("t1")],
        scenario={
            "checks": [{"kind": "output", "name": "text", "path": "output.text", "equals": "scripted answer"}],
            "model": {
                "mode": "scripted",
                "script": "script.yaml",
                "prices": {"scripted-helper": {"input": 1, "output": 1}},
            },
        },
    )
    (project.root / "script.yaml").write_text("rules:\n  - {match: answer, reply: scripted answer}\n")
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "simulated" in finished.stdout.lower()
    attempt = project.run().attempts[0]
    assert attempt.simulated
    assert attempt.dollars is not None and attempt.dollars > 0
    spans = project.records("t1", "span")
    assert "execute_tool lookup" in [span["data"]["name"] for span in spans]
    assert {span["provenance"] for span in spans} == {"declared"}
    assert project.records("t1", "tool.call")[0]["data"]["tool"] == "lookup"
