"""A suite's directory: ``suite.yaml``, and a file for each case. Each file is there whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from podctl.errors import SpecError
from podctl.spec.base import API_VERSION
from podctl.spec.load import load_model, load_suite
from podctl.spec.problems import printable, shown
from podctl.spec.shape import validate
from podctl.spec.source import MAX_FILE, parse
from podctl.spec.suite import Case, Suite, cases_directory
from podctl.spec.writing import yaml_text
from podctl.tickets.files import write_whole

_HEAD = "# A case that podctl learn wrote. State and reference may be edited until it is accepted: podctl learn accept FILE --by NAME\n"
_SUITE = "# Written by podctl learn: reviewed cases are run by podctl run --suite {name}\n"


def suite_file(suite: Path) -> Path:
    """Of a suite that was named by its file or its directory."""
    return suite if suite.suffix in (".yaml", ".yml") else suite / "suite.yaml"


def open_suite(suite: Path, scenario: Path | None = None) -> tuple[Path, Suite, tuple[Case, ...]]:
    """The suite's file, the suite, and its cases; with ``scenario`` made when there is none. Raises `SpecError`."""
    file = suite_file(suite)
    if scenario is not None and not file.exists():
        _make(file, scenario)
    return file, *load_suite(file)


def _make(file: Path, scenario: Path) -> None:
    name = re.sub(r"[^a-z0-9-]+", "-", file.absolute().parent.name.lower()).strip("-")[:40]
    spec = {
        "apiVersion": API_VERSION,
        "kind": "Suite",
        "name": name if name[:1].isalpha() else f"suite-{name}"[:40],
        "scenario": os.path.relpath(scenario.absolute(), file.absolute().parent),
        "gate": {"pass_rate": 1},
    }
    try:
        cases_directory(file).mkdir(parents=True, exist_ok=True)
        write_whole(file, (_SUITE.format(name=shown(file.parent)) + yaml_text(spec)).encode())
    except OSError as error:
        raise _unwritable(file, error) from error


def case_file(suite: Path, case: Case) -> Path:
    return cases_directory(suite) / f"{case.name}.yaml"


def case_text(case: Case, path: Path) -> bytes:
    """The file as it is to be. Raises ValueError for what podctl would not read back as it is, such as text with a NUL."""
    value = case.model_dump(mode="json", exclude_defaults=True)
    value["review"] = {"status": case.review.status, **value.get("review", {})}
    head = _HEAD if case.review.status == "proposed" else ""
    try:
        data = (head + yaml_text({name: value[name] for name in Case.model_fields if name in value})).encode()
        if len(data) > MAX_FILE:
            raise ValueError(f"it would be larger than {MAX_FILE >> 20} MiB")
        back, problems = validate(parse(data, path), Case)
    except (SpecError, UnicodeError) as error:
        raise ValueError(f"it cannot be written as YAML: {error}") from error
    if problems or back is None:
        raise ValueError(f"it cannot be written as YAML: {problems[0].message}")
    if back != case:
        raise ValueError("it cannot be written as YAML and read back the same")
    return data


def write_case(suite: Path, case: Case) -> Path:
    """Raises `SpecError`, and ValueError as `case_text` does."""
    path = case_file(suite, case)
    data = case_text(case, path)
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def write_reviewed(suite: Path, case: Case) -> Path:
    """Raises `SpecError`; the case's file is then as it was."""
    try:
        return write_case(suite, case)
    except ValueError as error:
        raise SpecError(
            f"case {case.name} cannot be written: {error}", code="case-unwritable", unchanged="its file is as it was"
        ) from None


def open_case(file: Path) -> tuple[Path, Suite, Case]:
    """A case's file, with its suite, of which nothing else is looked at. Raises `SpecError`."""
    suite = file.absolute().parent.parent / "suite.yaml"
    if file.parent.name != "cases" and file.absolute().parent.name != "cases":
        raise SpecError(
            f"{printable(shown(file))} is no case of a suite",
            code="no-case",
            hint="name the file: suites/NAME/cases/CASE.yaml",
        )
    return suite, load_model(suite, Suite), load_model(file, Case)


def _unwritable(path: Path, error: OSError) -> SpecError:
    return SpecError(
        f"cannot write {printable(shown(path))}",
        code="suite-unwritable",
        cause=os.strerror(error.errno or 0),
        unchanged="what was there is as it was",
    )
