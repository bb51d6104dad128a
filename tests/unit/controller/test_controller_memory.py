"""What a controller holds for as long as it lives."""

from __future__ import annotations

import subprocess
import sys

_UNUSED = ("kubernetes.config", "kubernetes.client.api_client", "requests", "oauthlib")


def test_it_imports_no_half_of_a_client_that_it_does_not_use() -> None:
    script = f"import sys, podctl.controller.operator; print(*[name for name in {_UNUSED} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
