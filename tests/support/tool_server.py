"""An MCP server of the official package, as people write them: ``python tool_server.py stdio`` or ``python tool_server.py http PORT [HOST]``."""

from __future__ import annotations

import sys
import time
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("crm", version="1.4", instructions="Customers and their notes.")
notes: list[str] = []


@server.tool()
def find_customer(email: str) -> dict[str, Any]:
    """Find a customer by e-mail address."""
    return {"id": 7, "email": email}


@server.tool()
def add_note(customer: int, text: str) -> str:
    """Add a note to a customer."""
    notes.append(text)
    return f"{len(notes)} notes"


@server.tool()
def refund(customer: int, cents: int) -> str:
    """Pay money back."""
    notes.append(f"refund {cents}")
    return "paid"


@server.tool()
def close_account(customer: int) -> str:
    """Close a customer's account."""
    notes.append("closed")
    return "closed"


@server.tool()
def echo(value: Any) -> str:
    """Say what was given, as Python writes it."""
    return repr(value)


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool()
def wait(seconds: float) -> str:
    """Take a while."""
    time.sleep(seconds)
    return "waited"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        # On this address the package lets in nobody who calls it by another name, as the gateway does.
        anyone = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.run(
            "streamable-http",
            host=sys.argv[3] if sys.argv[3:] else "127.0.0.1",
            port=int(sys.argv[2]),
            transport_security=anyone,
        )
