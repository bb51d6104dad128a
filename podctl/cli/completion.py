"""Shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    eval "$(podctl completion bash)"
    podctl completion fish > ~/.config/fish/completions/podctl.fish
    """
    from podctl.cli.main import podctl

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(podctl, {}, "podctl", "_PODCTL_COMPLETE").source())
