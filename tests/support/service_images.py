"""Images of somebody else's for services: with an entry point, arguments, a user and a volume of their own, and nothing of podctl's."""

from __future__ import annotations

import io
import re
import shutil
import sysconfig
import tarfile
from importlib import metadata
from pathlib import Path

import docker
import engine_image

#: A shop's front: reads its configuration and what the image has beside it, asks its store, keeps a file in the image's volume.
WEB = """
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
def stored():
    with socket.create_connection((os.environ["STORE_HOST"], 6380), 2) as store:
        store.sendall(b"look\\n")
        return store.makefile().readline().strip()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/healthz":
            self.send_response(204)
            self.end_headers()
            return
        open("/lasting/last", "w").write(self.path)
        facts = {"arguments": sys.argv[1:], "greeting": open("/etc/shop/greeting").read(), "kept": open("/etc/shop/image").read(),
                 "store": stored(), "secret": open("/run/secrets/word").read(), "uid": os.getuid(), "mode": os.environ["MODE"], "path": os.environ.get("PATH", "")}
        try:
            open("/somewhere", "w")
            facts["root"] = "writable"
        except OSError:
            facts["root"] = "read-only"
        try:
            open("/etc/shop/more", "w")
            facts["files"] = "writable"
        except OSError:
            facts["files"] = "read-only"
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
HTTPServer(("0.0.0.0", 80), Handler).serve_forever()
"""
STORE = """
import os, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        if self.rfile.readline() != b"look\\n":
            return
        seen = int(open("/state/seen").read()) + 1 if os.path.exists("/state/seen") else 1
        open("/state/seen", "w").write(str(seen))
        self.wfile.write(f"seen {seen}\\n".encode())
socketserver.TCPServer(("0.0.0.0", 6380), Handler).serve_forever()
"""


def give(client: docker.DockerClient) -> dict[str, str]:
    """Part -> image: ``web``, ``store``, and ``worker``, which has a shell and no Python."""
    python = str(engine_image.PYTHON)
    whole = engine_image.root()
    made = {
        "web": (
            _with(whole, {"/srv/web.py": WEB, "/etc/shop/": "", "/etc/shop/image": "of the image", "/lasting/": ""}),
            [
                f'ENTRYPOINT ["{python}", "/srv/web.py"]',
                'CMD ["by", "default"]',
                "USER 4711",
                "VOLUME /lasting",
                "ENV PATH=/own/path",
            ],
        ),
        "store": (_with(whole, {"/srv/store.py": STORE, "/state/": ""}), ['CMD ["/bin/false"]']),
        "worker": (_shell_alone(), ['ENTRYPOINT ["/bin/sh", "-c", "echo working >/tmp/began; exec sleep 600"]']),
    }
    names = {}
    for part, (data, changes) in made.items():
        client.api.import_image_from_data(data, repository=f"podctl-tests-{part}", tag="1", changes=changes)
        names[part] = f"podctl-tests-{part}:1"
    return names


def give_tools(client: docker.DockerClient) -> str:
    """An image of an MCP server as people write them, with the official package."""
    server = Path(__file__).parent / "tool_server.py"
    data = _with_packages(_with(engine_image.root(), {"/srv/tools.py": server.read_text()}), "mcp", "cryptography")
    entry = f'ENTRYPOINT ["{engine_image.PYTHON}", "-B", "/srv/tools.py", "http", "8080", "0.0.0.0"]'
    client.api.import_image_from_data(data, repository="podctl-tests-tools", tag="1", changes=[entry, "USER 4712"])
    return "podctl-tests-tools:1"


def _with_packages(archive: bytes, *names: str) -> bytes:
    """Packages that are installed here, and all that they need but by extras."""
    found: dict[str, list[Path]] = {}
    asked = list(names)
    while asked:
        one = asked.pop()
        try:
            package = metadata.distribution(one)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        if package.name not in found:
            found[package.name] = [Path(str(file)) for file in package.files or () if not str(file).startswith("..")]
            asked += [re.split(r"[^\w.-]", line)[0] for line in package.requires or () if "extra ==" not in line]
    root = Path(str(metadata.distribution(names[0]).locate_file("")))
    files = {root / file for files in found.values() for file in files if "__pycache__" not in file.parts}
    wanted = {str(path): path.resolve() for path in engine_image.libraries([file for file in files if file.suffix == ".so"])}
    wanted |= {f"{sysconfig.get_paths()['stdlib']}/site-packages/{file.relative_to(root)}": file for file in files}
    made = io.BytesIO(archive)
    with tarfile.open(fileobj=made, mode="a") as tar:
        there = {f"/{name}" for name in tar.getnames()}
        for name in wanted.keys() - there:
            tar.add(wanted[name], name)
    return made.getvalue()


def _with(archive: bytes, files: dict[str, str]) -> bytes:
    """More files, and directories where a name ends with a slash."""
    made = io.BytesIO(archive)
    with tarfile.open(fileobj=made, mode="a") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode = 0o755
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            entry.size = len(content)
            entry.uid = entry.gid = 4711  # what the image gives its own user is not to be written to all the same
            tar.addfile(entry, io.BytesIO(content.encode()))
    return made.getvalue()


def _shell_alone() -> bytes:
    tools = [Path(str(shutil.which(name))) for name in ("sh", "sleep", "cat")]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for library in sorted(engine_image.libraries(tools)):
            tar.add(library.resolve(), str(library))
        for tool in tools:
            tar.add(tool.resolve(), f"/bin/{tool.name}")
        for name in ("/tmp", "/proc", "/sys", "/dev", "/etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    return made.getvalue()
