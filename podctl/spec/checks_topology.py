"""What a topology must mean: names once, references that lead somewhere, no circles."""

from __future__ import annotations

import graphlib

from podctl.spec.checks_approvals import seconds_at
from podctl.spec.models import ToolServer
from podctl.spec.problems import Mark, printable
from podctl.spec.report import Report, check_known, check_placeholders
from podctl.spec.source import Item

#: Names that mean something else inside a pod.
RESERVED = ("gateway", "localhost")
_OF_DATABASES = ("url", "host", "port", "user", "password", "name")
_OF_SERVICES = ("url", "host", "port")
_CAPTURED_SAYS = "how a captured seed is masked stands in its own signed statement"
#: What only a service that runs from an image has.
_OF_IMAGES = ("arguments", "working_directory", "files", "writable", "user", "aliases")


def present(root: Item) -> dict[str, bool]:
    """Databases and services of a topology -> whether they exist in a pod (are not left out)."""
    both = {**root.mapping("databases"), **root.mapping("services")}
    return {name: item.text("mode", "mirrored") != "left-out" for name, (_, item) in both.items()}


def check_topology(root: Item, report: Report) -> None:
    databases, services = root.mapping("databases"), root.mapping("services")
    for name, (at, _) in [*databases.items(), *services.items()]:
        if name in RESERVED:
            report.add(at, f"`{name}` means something else in a pod", "choose another name")
    for name in [name for name in services if name in databases]:
        first = databases[name][0]
        report.add(services[name][0], f"`{name}` is a database too, at line {first.line}", "names are unique over both")
    for name, (at, database) in databases.items():
        mode = database.text("mode", "mirrored")
        if mode == "left-out":
            _reason(name, at, database, report)
        elif mode == "mirrored" and (seed := database.get("seed")) is not None:
            report.path(seed.get("captured"), "directory")
            for script in seed.list("sql"):
                report.path(script, "file")
            for _, table in seed.mapping("csv").values():
                report.path(table, "file")
            if (said := seed.get("data")) is not None and not seed.list("sql") and not seed.mapping("csv"):
                report.add(said.at, "`data` speaks of `sql` and `csv`, and there are none", _CAPTURED_SAYS)
    known = present(root)
    stands_for = _placeholder_names(root, known)
    for name, (at, service) in services.items():
        _service(name, at, service, known, stands_for, report)
    _names_once(services, known, report)
    _cycles(services, report)


def _placeholder_names(root: Item, known: dict[str, bool]) -> dict[str, bool]:
    """What ``${…}`` may name -> whether it exists in a pod."""
    names = {"python": True}
    for name in root.mapping("databases"):
        names |= {f"{name}.{attribute}": known[name] for attribute in _OF_DATABASES}
    for name, (_, service) in root.mapping("services").items():
        ports = service.get("ports")
        listens = ports is None or ports.items != []
        names |= {f"{name}.{attribute}": known[name] for attribute in (_OF_SERVICES if listens else ("host",))}
    return names


def _names_once(services: dict[str, tuple[Mark, Item]], known: dict[str, bool], report: Report) -> None:
    """A host name leads to one place."""
    taken = dict.fromkeys([*known, *RESERVED], "")
    for name, (_, service) in services.items():
        for alias in service.list("aliases") if known[name] else []:
            if isinstance(alias.value, str) and taken.setdefault(alias.value, name) != name:
                report.add(alias.at, f"`{printable(alias.value, 60)}` is the name of something else", "names lead to one place")


def _reason(name: str, at: Mark, item: Item, report: Report) -> None:
    reason = item.text("reason", "")
    if reason is not None and not reason.strip():
        report.add(at, f"`{printable(name, 60)}` is left out without a reason", "add reason: with a sentence")


def _service(name: str, at: Mark, service: Item, known: dict[str, bool], stands_for: dict[str, bool], report: Report) -> None:
    mode = service.text("mode", "mirrored")
    label = printable(name, 60)
    if mode != "left-out":
        _tool_server(label, mode, service, report)
    for needed in service.list("depends_on"):
        if isinstance(needed.value, str):
            check_known(needed, needed.value, known, "database or service", report)
    if mode == "left-out":
        _reason(name, at, service, report)
    elif mode == "stubbed":
        routes = service.get("routes")
        if routes is None or routes.items == []:
            report.add(at, f"`{label}` is stubbed but has no routes", "add routes: with a path, a status and a body")
        _listens(label, service, report)
    elif mode == "mirrored":
        command, image = service.get("command"), service.get("image")
        if image is None or image.value is None:
            if command is None or command.items == []:
                report.add(
                    at, f"`{label}` is mirrored but has no command", "add command: or image:, or set mode: stubbed or left-out"
                )
            _needs_image(label, service, report)
        _container(service, report)
        report.path(service.get("directory"), "directory")
        for path in service.list("read_only"):
            report.path(path, "any")
        environment = [value for _, value in service.mapping("environment").values()]
        texts = [text for _, file in service.mapping("files").values() if (text := file.get("text")) is not None]
        for item in [*service.list("command"), *service.list("arguments"), *environment, *texts]:
            check_placeholders(item, stands_for, report)


def _tool_server(label: str, mode: str | None, service: Item, report: Report) -> None:
    settings, ports, protocol = service.get("mcp"), service.get("ports"), service.get("protocol")
    if service.text("protocol", "http") != "mcp":
        if settings is not None:
            report.add(settings.at, f"`{label}` has mcp but is no MCP server", "add protocol: mcp, or remove it")
        return
    assert protocol is not None
    if mode == "stubbed":
        report.add(
            protocol.at, f"`{label}` is stubbed, and a stub does not speak MCP", "give it a command: or image:, or leave it out"
        )
    if ports is not None and ports.items is not None and len(ports.items) != 1:
        report.add(ports.at, f"`{label}` is an MCP server and has {len(ports.items)} ports", "its endpoint is at one port")
    if settings is not None and settings.text("transport", "http") == "stdio":
        image = service.get("image")
        if image is not None and image.value is not None:
            hint = "give it a command: in place of the image:, or transport: http"
            report.add(image.at, f"`{label}` speaks MCP on its standard input, and runs from an image", hint)
    if settings is not None:
        _tool_limits(settings, report)


def _tool_limits(settings: Item, report: Report) -> None:
    """A tool's that is more than its server's would limit nothing."""
    whole, calls = ToolServer(), settings.get("calls")
    most_calls = calls.value if calls is not None and isinstance(calls.value, int) else whole.calls
    most_seconds = seconds_at(settings.get("seconds"), whole.seconds)
    for name, (_, limits) in settings.mapping("limits").items():
        own_calls, own_seconds = limits.get("calls"), limits.get("seconds")
        if own_calls is not None and isinstance(own_calls.value, int) and own_calls.value > most_calls:
            report.add(
                own_calls.at, f"{name} may have more calls than its server's {most_calls}", "raise the server's calls too"
            )
        if own_seconds is not None and seconds_at(own_seconds, 0.0) > most_seconds:
            said = f"{name} may take longer than its server's {most_seconds:g} s"
            report.add(own_seconds.at, said, "raise the server's seconds too")


def _listens(label: str, service: Item, report: Report) -> None:
    ports = service.get("ports")
    if ports is not None and ports.items == []:
        report.add(ports.at, f"`{label}` has no ports", "only a service that runs from an image may have none")


def _needs_image(label: str, service: Item, report: Report) -> None:
    """What a service that runs by its command has no use for."""
    _listens(label, service, report)
    for key in _OF_IMAGES:
        item = service.get(key)
        if item is not None and item.value not in (None, [], {}):
            report.add(item.at, f"`{label}` has {key} but no image", "add image:, or remove it")
    ready = service.get("ready")
    if ready is not None and ready.list("command"):
        report.add(ready.list("command")[0].at, f"`{label}` has ready.command but no image", "give ready a path or a port")


def _container(service: Item, report: Report) -> None:
    """What an image's container is given, and when it is ready."""
    files, writable = service.mapping("files"), service.mapping("writable")
    for _, source in files.values():
        report.path(source, "any")
    for target, (at, _) in [*files.items(), *writable.items()]:
        parts = target.split("/")
        if {".", ".."} & set(parts):
            report.add(at, f"{printable(target)} is not a plain path", "write it without . and ..")
        elif parts[1:2] in (["podctl"], ["proc"], ["sys"], ["dev"]) and target != "/dev/shm":
            report.add(at, f"{printable(target)} is not for a service to have", "choose another place")
    for target, (at, source) in files.items():
        single = source.entries is not None or report.found(source) == "file"
        if target.rpartition("/")[0] in ("", *writable) and single:
            report.add(at, f"{printable(target)} cannot be put there", "a file needs a directory, and one that is not writable")
    ready = service.get("ready")
    path = ready.get("path") if ready is not None else None
    if ready is not None and path is not None and path.value is not None and ready.list("command"):
        report.add(path.at, "expected either path or command, found both", "keep one of them")


def _cycles(services: dict[str, tuple[Mark, Item]], report: Report) -> None:
    needs = {
        name: [item.value for item in service.list("depends_on") if isinstance(item.value, str) and item.value in services]
        for name, (_, service) in services.items()
    }
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        # graphlib lists each before what depends on it; people read it the other way round.
        cycle: list[str] = list(reversed(error.args[1]))
        start = min(range(len(cycle) - 1), key=lambda index: services[cycle[index]][0])
        turn = [*cycle[start:-1], *cycle[: start + 1]]
        item = next(item for item in services[turn[0]][1].list("depends_on") if item.value == turn[1])
        report.add(item.at, f"the services wait for each other: {printable(' -> '.join(turn))}", "remove one depends_on")
