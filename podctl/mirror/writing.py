"""The topology's file, what it names beside it, and the report: whole, or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from podctl.errors import PodctlError, SpecError
from podctl.mirror.sources import Imported, facts
from podctl.spec.load import load_model
from podctl.spec.models import API_VERSION, Topology
from podctl.spec.problems import printable, shown
from podctl.spec.writing import yaml_text


def files_directory(output: Path) -> str:
    return f"{output.stem}.files"


def report_name(output: Path) -> str:
    return f"{output.stem}.import.json"


def topology_text(imported: Imported, output: Path, command: str) -> str:
    """The file's text. Each service stands after an empty line."""
    origin = {
        "kind": imported.kind,
        "sources": list(imported.sources),
        "digest": imported.digest,
        "report": report_name(output),
    }
    head = {"apiVersion": API_VERSION, "kind": "Topology", "name": imported.name, "origin": origin}
    parts = [yaml_text(head), *(_spaced(yaml_text({key: value})) for key, value in imported.carried.topology.items())]
    note = f"# Written by: {printable(command, 500)}\n# {report_name(output)} says line by line what was changed, stubbed and left out.\n"
    return note + "\n".join(parts)


def _spaced(text: str) -> str:
    """An empty line before each entry but the first."""
    return re.sub(r"\n(?=  [a-z][a-z0-9-]*:\n)", "\n\n", text).replace(":\n\n", ":\n", 1)


def write(imported: Imported, output: Path, command: str, force: bool) -> list[Path]:
    """Write topology, files and report beside one another; what was written. Raises `SpecError`."""
    files, report = output.parent / files_directory(output), output.parent / report_name(output)
    there = [path for path in (output, files, report) if path.exists() or path.is_symlink()]
    if there and not force:
        raise SpecError(
            f"{printable(shown(there[0]))} is there already",
            code="output-exists",
            unchanged="nothing was written",
            hint="--force replaces it, or name another file with -o",
        )
    if not output.parent.is_dir():
        raise SpecError(
            f"no such directory: {printable(shown(output.parent))}", code="output-directory", unchanged="nothing was written"
        )
    _remove_abandoned(output)
    with tempfile.TemporaryDirectory(prefix=f"{_partial(output)}{os.getpid()}-", dir=output.parent) as partial:
        made = Path(partial)
        (made / output.name).write_text(topology_text(imported, output, command))
        (made / report.name).write_text(json.dumps(facts(imported), indent=1, ensure_ascii=False) + "\n")
        for name, content in imported.carried.files.items():
            target = made / files.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _validate(made / output.name)
        # The topology is the last: what it names is there when it is.
        if force:
            output.unlink(missing_ok=True)
            shutil.rmtree(files, ignore_errors=True)
        written = []
        for path in (files, report, output):
            if (made / path.name).exists():
                (made / path.name).replace(path)
                written.append(path)
    return list(reversed(written))


def _partial(output: Path) -> str:
    return f".{output.stem}.partial-"


def _remove_abandoned(output: Path) -> None:
    """What an import left that was killed: the process that its name has is no more."""
    for left in output.parent.glob(f"{_partial(output)}*"):
        pid = left.name.removeprefix(_partial(output)).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _validate(path: Path) -> None:
    try:
        load_model(path, Topology)
    except PodctlError as error:
        raise RuntimeError(f"the import made a topology that podctl refuses: {error.render()}") from error
