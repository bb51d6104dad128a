"""Seeds out of live databases. Each command is imported when it is used."""

from __future__ import annotations

import importlib

import click

#: name -> (module, function, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "plan": ("capture", "plan_command", "Show what a capture would take, reference by reference, and take nothing."),
    "capture": ("capture", "capture_command", "Take the rows that tickets need out of a live database, masked on the way."),
    "classify": ("masking", "classify_command", "Propose how each column is masked, for a person to confirm."),
    "key": ("masking", "key_command", "Make, show or rotate the keys that masks are made with."),
    "scan": ("masking", "scan_command", "Look for raw values of a live database in files."),
    "verify": ("masking", "verify_command", "Check that a captured seed is what was searched and signed."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"podctl.cli.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group("data", cls=_Lazy)
def data_command() -> None:
    """Mirror production's data: take what tickets need of a live database, masked, as the seed of test pods.

    \b
    podctl data plan capture.yaml
    podctl data capture capture.yaml -o seeds/orders
    """
