"""The command line. Commands are imported when they are used: `podctl --help` must be quick."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from typing import Any

import click

from podctl import __version__
from podctl.cli.streams import guard_streams
from podctl.errors import ExitCode, PodctlError, refused_by_system

#: name -> (module, one line of help); kept here so that help needs no imports.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("specs", "Write a small working project to start from."),
    "validate": ("specs", "Check spec files; every mistake with its file, line and column."),
    "schema": ("specs", "Print JSON Schema for editors."),
    "topology": ("topology", "Make a topology from Compose files, Kubernetes manifests or a namespace."),
    "boundary": ("boundary", "What an agent may write: which rule decides, what a change opens."),
    "tools": ("tools", "What MCP servers said of their tools in a run; what changed of it; pin it."),
    "plan": ("specs", "Show what a run would make and could cost, and make nothing."),
    "tickets": ("tickets", "Show the population and the sample; freeze a sample; pull tickets from where they are kept."),
    "run": ("run", "Run an agent version over the sampled tickets, and say whether it may go on."),
    "approvals": ("approvals", "See and answer what agents propose to people, while their runs go on."),
    "attack": ("attack", "Plant instructions in tickets and answers, and say what the agent made of them."),
    "merge": ("merge", "Put the shards of a run together, and judge the whole."),
    "ci": ("ci", "Try every agent that a change touches against what it was; write all reports."),
    "gate": ("gate", "Judge a run again: other thresholds, another baseline, or against itself."),
    "chaos": ("chaos", "Run a scenario while things around the agent fail: latency, errors, stale reads, rivals, migrations."),
    "power": ("gate", "Before spending: what a sample of so many tickets would find."),
    "demo": ("demo", "Run the example shop: two versions of an agent, compared."),
    "project": ("project", "Cost and time for the real workload, from a run's sample."),
    "prices": ("prices", "Pin what models cost, show it, and compare it with today's list prices."),
    "reprice": ("prices", "What a run's tokens cost at other prices."),
    "bills": ("bills", "Enter what projected months really cost, and see how often the stated ranges held."),
    "data": ("data", "Take seeds out of live databases: what tickets need of them, masked."),
    "get": ("get", "List runs, attempts of a run, or pods on this machine."),
    "describe": ("get", "Show one run or one pod in full."),
    "trace": ("evidence", "One attempt as a timeline: what happened, and why."),
    "diff": ("evidence", "The rows an attempt changed, against what it should have changed."),
    "undo": ("undo", "The SQL that takes back the rows that an attempt changed."),
    "export": ("evidence", "Write a run's evidence as OTLP, ATIF or JUnit."),
    "audit": ("audit", "Who did what, with which digests; check that evidence and log are as they were; export them."),
    "evidence-pack": ("evidence_pack", "The page that a security team signs, with what shows each answer."),
    "certify": ("certify", "Sign what a run came to, for whoever deploys the agent."),
    "verify": ("certify", "Say whether a certificate is enough to deploy; offline, for pipelines."),
    "trust": ("trust", "Which level of trust an agent has, and what the next one asks."),
    "promote": ("trust", "Approve a level of trust for an agent version."),
    "waive": ("trust", "Answer for a demand that an agent version does not meet, for a while."),
    "revoke": ("trust", "Take trust back from a certificate, an agent or a key."),
    "learn": ("learn", "Tickets that went wrong become reviewed cases of a suite."),
    "suite": ("suite", "How each agent version does on a suite's cases."),
    "compare": ("compare", "Hold agents together that worked the same sample, ticket by ticket."),
    "trend": ("compare", "An agent's versions over time: pass rate, cost and time of each run."),
    "report": ("evidence", "Write the report of a run again."),
    "doctor": ("doctor", "Say what this machine can isolate, and what to type where it cannot."),
    "gc": ("gc", "Remove what dead runs left, and print a receipt."),
    "install": ("install", "Put into a cluster what podctl needs there, or print it, or take it out."),
    "up": ("pods", "Make a pod and keep it."),
    "down": ("pods", "Remove a kept pod."),
    "exec": ("pods", "Run a command in a kept pod's agent sandbox."),
    "psql": ("pods", "Open a kept pod's database."),
    "logs": ("pods", "Print a service's or database's log from a pod."),
    "controller": ("controller", "Bring every TestRun of a cluster to its end; the cluster runs this."),
    "completion": ("completion", "Print the shell completion script."),
}


#: Commands that remove what dead runs left, or whose output is no place to speak of it.
REMOVING = ("run", "attack", "chaos", "ci", "demo", "gc", "completion", "controller")


class Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"podctl.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else "podctl --help lists the commands"
            raise PodctlError(f"no command {args[0]!r}", code="usage", hint=hint, exit_code=ExitCode.USAGE)
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="podctl")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def podctl(ctx: click.Context, debug: bool) -> None:
    """Test pods for AI agents: run an agent version on real tickets in isolated mirrors of production.

    \b
    podctl demo                          see it work
    podctl init shop && cd shop          start a project
    podctl run scenario.yaml             run it
    podctl trace latest TICKET           follow one ticket
    """
    if debug:
        os.environ["PODCTL_DEBUG"] = "1"
    if ctx.invoked_subcommand not in REMOVING:
        from podctl.cli.common import tell_of_orphans

        tell_of_orphans()


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code: expected errors are text, never tracebacks."""
    guard_streams()
    # What it says of a query that was interrupted is for programmers; without a handler Python prints it.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    try:
        code: Any = podctl.main(args=argv, prog_name="podctl", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = int(ExitCode.USAGE)
    except click.ClickException as error:
        where = f"  {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        message = error.format_message().rstrip(".")
        click.echo(f"error: {message[:1].lower()}{message[1:]} [usage]" + (f"\n{where}" if where else ""), err=True)
        code = int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        code = int(ExitCode.INTERRUPTED)
    except Exception as error:
        if os.environ.get("PODCTL_DEBUG"):
            raise
        code = _tell(error)
    _let_go_of_output()
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception) -> int:
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        error = BlockingIOError(errno.EAGAIN, str(error))
    problem = refused_by_system(error) if isinstance(error, OSError) else error
    if isinstance(problem, PodctlError):
        click.echo(problem.render(), err=True)
        return int(problem.exit_code)
    click.echo(f"error: a bug in podctl: {type(error).__name__}: {error} [bug]", err=True)
    click.echo("  run again with PODCTL_DEBUG=1 for the traceback, and please report it", err=True)
    return int(ExitCode.BUG)


def _let_go_of_output() -> None:
    """What cannot be written any more must not be tried once more at the interpreter's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
