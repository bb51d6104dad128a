"""The same MCP server on standard input and output: ``python -m benchmarks.lines``."""

from __future__ import annotations

import json
import sys

from benchmarks.upstream import tools

if __name__ == "__main__":
    for line in sys.stdin.buffer:
        if told := tools(json.loads(line)):
            sys.stdout.buffer.write(told + b"\n")
            sys.stdout.buffer.flush()
