"""Probes of what an agent can reach on a network. Runs inside the sandbox, see `probes`."""

from __future__ import annotations

import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]

_SECONDS = 1.0
_AT_ONCE = 8
_USUAL_PORTS = (1, 22, 53, 79, 81, 111, 443, 2375, 4317, 4318, 6443, 8000, 8080, 10250)


def reach(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> str:
    """Empty when a connection was made, else what refused it."""
    with socket.socket(family, kind) as sock:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(address)
        except TimeoutError:
            return "timed out"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def _gateway(plan: Plan) -> tuple[bool, str]:
    refusal = reach(socket.AF_INET, tuple(plan["gateway"]))
    return not refusal, f"the gateway: {refusal or 'connected'}"


def _denied(plan: Plan, targets: list[tuple[int, Any]]) -> Seen:
    """None of the targets; with none to try nothing is shown."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        told = list(threads.map(lambda target: reach(*target), targets))
    answers = {str(address): refusal for (_, address), refusal in zip(targets, told, strict=True)}
    if not answers:
        return None, "nothing to try", *_gateway(plan)
    open_ones = [address for address, refusal in answers.items() if not refusal]
    how = f"connected to {', '.join(open_ones)}" if open_ones else ", ".join(sorted(set(answers.values())))
    return bool(open_ones), how, *_gateway(plan)


def host_loopback(plan: Plan) -> Seen:
    return _denied(plan, _tcp(plan["host_tcp"]))


def _tcp(places: list[Any]) -> list[tuple[int, Any]]:
    return [(socket.AF_INET, tuple(place)) for place in places]


def link_local(plan: Plan) -> Seen:
    return _denied(plan, [(socket.AF_INET, ("169.254.169.254", port)) for port in (80, 443)])


def outside(plan: Plan) -> Seen:
    """Nobody's addresses, other people's, the host's own; where a pod has a network at all, it has no route."""
    addresses = ["203.0.113.7", "1.1.1.1", "10.0.0.1", "172.17.0.1", "192.168.0.1"]
    seen = _denied(plan, _tcp([*((address, 443) for address in addresses), *plan["outside"]]))
    if plan["routed"]:
        return seen
    could, how, control, control_how = seen
    with open("/proc/net/route") as stream:
        routes = stream.read().splitlines()[1:]
    if routes:
        return True, f"{len(routes)} routes: {routes[0]}", control, control_how
    return could, f"{how}; no route", control, control_how


def _pair(family: int, kind: int, address: Any) -> str:
    """A listener of the sandbox's own, reached by itself; what went wrong."""
    try:
        with socket.socket(family, kind) as listener, socket.socket(family, kind) as other:
            listener.bind(address)
            listener.settimeout(_SECONDS)
            if kind == socket.SOCK_STREAM:
                listener.listen(1)
                other.connect(listener.getsockname())
                return ""
            other.sendto(b"x", listener.getsockname())
            listener.recv(1)
            return ""
    except OSError as error:
        return str(error)


def host_abstract_socket(plan: Plan) -> Seen:
    answers = [reach(socket.AF_UNIX, "\0" + name) for name in plan["host_abstract"]]
    own = _pair(socket.AF_UNIX, socket.SOCK_STREAM, f"\0escape-{os.getpid()}")
    how = ", ".join(sorted({refusal or "connected" for refusal in answers}))
    return "" in answers, how, not own, own or "an abstract socket of its own works"


def host_path_socket(plan: Plan) -> Seen:
    answers = {path: reach(socket.AF_UNIX, path) for path in plan["host_sockets"]}
    open_ones = [path for path, refusal in answers.items() if not refusal]
    own = _pair(socket.AF_UNIX, socket.SOCK_STREAM, f"/tmp/escape-{os.getpid()}")
    how = f"connected to {', '.join(open_ones)}" if open_ones else ", ".join(sorted(set(answers.values())))
    return bool(open_ones), how, not own, own or "a socket of its own in /tmp works"


def only_doors(plan: Plan) -> Seen:
    """Every listener of the agent's network is one of the gateway's."""
    doors = {(host, port) for host, port in plan["doors"]}
    listening = _listeners()
    own = doors if plan["doors_here"] else set()
    strange = sorted(f"{host}:{port}" for host, port in listening - own)
    gateway = plan["gateway"][0]
    others = [(gateway, port) for port in _USUAL_PORTS if (gateway, port) not in doors] + [tuple(at) for at in plan["no_doors"]]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        refusals = list(threads.map(lambda place: reach(socket.AF_INET, place), others))
    strange += [f"{host}:{port}" for (host, port), refusal in zip(others, refusals, strict=True) if not refusal]
    reachable, how = _gateway(plan)
    control = reachable and (doors <= listening if own else not any(reach(socket.AF_INET, door) for door in doors))
    return bool(strange), f"also open: {', '.join(strange)}" if strange else "no other listener", control, how


def _listeners() -> set[tuple[str, int]]:
    found = set()
    for name, listen in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        try:
            with open(f"/proc/net/{name}") as stream:
                lines = stream.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == listen:
                host, port = fields[1].split(":")
                address = socket.inet_ntoa(bytes.fromhex(host)[::-1]) if len(host) == 8 else host
                found.add((address, int(port, 16)))
    return found


def dns(plan: Plan) -> Seen:
    resolved = []
    for name in (plan["dns_canary"], "localhost.localdomain.example.com", *plan["names"]):
        try:
            resolved.append(str(socket.getaddrinfo(name, 80)[0][4]))
        except OSError:
            continue
    query = bytes.fromhex("abcd01000001000000000000") + b"\x06canary\x07example\x00\x00\x01\x00\x01"
    for server in dict.fromkeys(("127.0.0.1", "127.0.0.11", "127.0.0.53", "8.8.8.8", *plan["nameservers"])):
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            try:
                sock.connect((server, 53))
                sock.send(query)
                sock.recv(512)
                resolved.append(f"{server} answers")
            except OSError:
                continue
    try:
        control = socket.getaddrinfo(plan["service"], 80)[0][4][0] == plan["service_address"]
    except OSError:
        control = False
    how = f"resolved: {', '.join(resolved)}" if resolved else "no name resolves"
    return bool(resolved), how, control, f"{plan['service']} resolves by the hosts file"


def udp_outside(plan: Plan) -> Seen:
    """Whether a datagram reached the host's listener is the host's to say; here only what could be sent outside."""
    sent = []
    for target in (*map(tuple, plan["host_udp"]), ("203.0.113.7", 9), ("8.8.8.8", 53)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(plan["token"].encode(), target)
                # A socket takes what a policy then drops: there, what arrives is asked.
                if not target[0].startswith("127.") and not plan["routed"]:
                    sent.append(f"{target[0]}:{target[1]}")
            except OSError:
                continue
    own = _pair(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    return bool(sent), f"sent to {', '.join(sent)}" if sent else "unreachable", not own, own or "UDP to itself works"


def ipv6(plan: Plan) -> Seen:
    targets = [("2606:4700:4700::1111", 443), ("fe80::1", 80), ("ff02::1", 9)]
    if plan["host_tcp6"]:
        targets.append(tuple(plan["host_tcp6"]))
    try:
        answers = {address: reach(socket.AF_INET6, (address, port)) for address, port in targets}
    except OSError as error:
        # A kernel without IPv6 has none to leave by.
        return False, str(error), *_gateway(plan)
    open_ones = [address for address, refusal in answers.items() if not refusal]
    own = _pair(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
    how = f"connected to {', '.join(open_ones)}" if open_ones else ", ".join(sorted(set(answers.values())))
    if own:  # a network without IPv6: not even its loopback has an address
        return bool(open_ones), f"{how}; no IPv6 of its own: {own}", *_gateway(plan)
    return bool(open_ones), how, True, "IPv6 to itself works"


def neighbour_service(plan: Plan) -> Seen:
    return _denied(plan, _tcp(plan["neighbour_service"]))


def neighbour_database(plan: Plan) -> Seen:
    return _denied(plan, _tcp(plan["neighbour_database"]))


def past_door(plan: Plan) -> Seen:
    return _denied(plan, _tcp(plan["past_door"]))


def engine(plan: Plan) -> Seen:
    sockets = [(socket.AF_UNIX, path) for path in plan["engine_sockets"]]
    return _denied(plan, [*sockets, *_tcp(plan["engine_ports"])])


def api_server(plan: Plan) -> Seen:
    return _denied(plan, _tcp(plan["api_server"]))


PROBES = {
    "host-loopback": host_loopback,
    "host-abstract-socket": host_abstract_socket,
    "host-path-socket": host_path_socket,
    "only-doors": only_doors,
    "link-local": link_local,
    "outside": outside,
    "dns": dns,
    "udp-outside": udp_outside,
    "ipv6": ipv6,
    "past-door": past_door,
    "engine": engine,
    "api-server": api_server,
    "neighbour-service": neighbour_service,
    "neighbour-database": neighbour_database,
}
