"""A composite action's steps, run as a GitHub runner would: inputs, expressions in ``env`` and ``if``, the files steps write to.

Steps that use another action are not run, and are listed. Only the expressions that action.yml has are understood.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")


@dataclass
class Runner:
    """``event`` is the payload; ``environment`` what the runner gives every step."""

    action: Path
    workspace: Path
    temporary: Path
    event_name: str
    event: Mapping[str, Any]
    environment: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    said: str = ""

    def run(self) -> int:
        """The exit code of the first step that fails, else 0."""
        spec = yaml.safe_load(self.action.read_text())
        self.inputs = {name: self._filled(one.get("default", "")) for name, one in spec["inputs"].items()} | self.inputs
        for step in spec["runs"]["steps"]:
            if "if" in step and not self._value(str(step["if"])):
                continue
            if "uses" in step:
                self.used.append(step["name"])
                continue
            code = self._step(step)
            if code:
                return code
        return 0

    def _step(self, step: Mapping[str, Any]) -> int:
        assert step["shell"] == "bash"
        files = {name: self.temporary / f"{name}-{len(self.outputs)}" for name in ("GITHUB_OUTPUT", "GITHUB_PATH")}
        for path in files.values():
            path.write_text("")
        given = {name: self._filled(str(value)) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.workspace / self._filled(step.get("working-directory", ".")),
            env={**os.environ, **self.environment, **given, **{name: str(path) for name, path in files.items()}},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.said += f"== {step['name']}\n{done.stdout}{done.stderr}"
        self.outputs[step.get("id", step["name"])] = outputs(files["GITHUB_OUTPUT"].read_text())
        for directory in files["GITHUB_PATH"].read_text().split():
            self.environment["PATH"] = f"{directory}:{self.environment.get('PATH', os.environ['PATH'])}"
        return done.returncode

    def _filled(self, text: str) -> str:
        return _EXPRESSION.sub(lambda match: str(self._value(match[1]) or ""), text)

    def _value(self, expression: str) -> Any:
        """``a && b``, ``a || b``, ``a == b``, ``a != b``, names and quoted text."""
        for operator in (" && ", " || "):
            if operator in expression:
                left, right = expression.split(operator, 1)
                value = self._value(left)
                wanted = bool(value) is (operator == " && ")
                return self._value(right) if wanted else value
        for operator in (" == ", " != "):
            if operator in expression:
                left, right = (self._value(side) for side in expression.split(operator, 1))
                return (left == right) is (operator == " == ")
        name = expression.strip()
        if name.startswith("'"):
            return name.strip("'")
        known: Any = {
            "inputs": self.inputs,
            "github": {
                "token": self.environment.get("JOB_TOKEN", ""),
                "event_name": self.event_name,
                "event": self.event,
                "action_path": str(self.action.parent),
            },
            "steps": {step: {"outputs": found} for step, found in self.outputs.items()},
            "strategy": {"job-index": 0},
        }
        for part in name.split("."):
            known = known.get(part, "") if isinstance(known, Mapping) else ""
        return known


def outputs(text: str) -> dict[str, str]:
    """What a step wrote to ``$GITHUB_OUTPUT``."""
    found = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            found[name] = "\n".join(iter(lambda: next(lines), end))  # noqa: B023
        else:
            name, _, found[name] = line.partition("=")
    return found
