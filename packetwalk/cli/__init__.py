"""The command `packetwalk`. Everything heavy is imported by the command that needs it.

Exit status: 0 delivered (and answered), 1 not, 2 bad input (one line on stderr), 3 something not modelled decided.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from packetwalk.cli import compare, conformance, explain, plan, plot, prove, scenarios, simulate, tables, walk
from packetwalk.cli.options import BAD_INPUT, DELIVERED, INTERRUPTED, BadInput, emit

# typer carries click's exceptions under a name of its own since 0.27, and only their base class knows all of them.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def packetwalk(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Show the path of a packet through Linux network namespaces, as the kernel would take it.

    \b
    Examples, all on the cluster that is built where none is named (Calico with IP-in-IP on two nodes):
      packetwalk rooms                       who is there
      packetwalk walk a b                    ping pod b from pod a: what changed on the way
      packetwalk walk a b --tcp 8080 --full  every step, with the table entry that decided
      packetwalk show node-1 routes          what `ip route` prints there
      packetwalk commands node-1             the shell lines that build that node

    Exit status: 0 delivered, 1 not delivered, 2 bad input, 3 something that is not modelled decided.
    """
    if version:
        emit(f"packetwalk {_version()}")
        raise typer.Exit(DELIVERED)
    if ctx.invoked_subcommand is None:
        emit(ctx.get_help())


for command in (
    walk.walk, tables.rooms, tables.show, tables.commands, tables.modes, tables.schema, tables.predict,
    compare.compare, conformance.conformance, explain.explain, plan.plan, prove.prove, prove.record, prove.agree,
    simulate.simulate, scenarios.scenarios, scenarios.run, plot.plot,
):  # fmt: skip
    app.command()(command)


def main(argv: list[str] | None = None) -> int:
    """Run the command line (sys.argv unless given) and return its exit status."""
    command: Any = typer.main.get_command(app)
    try:
        status = command.main(args=explain.rule_last(argv), prog_name="packetwalk", standalone_mode=False)
    except BadInput as error:
        return _complain(*map(str, error.args))
    except prove.Missing as error:
        _complain(str(error))
        return prove.MISSING
    except CLICK_ERROR as error:
        ctx = getattr(error, "ctx", None)
        path = ctx.command_path if ctx is not None else "packetwalk"
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return _complain(f"{message.rstrip('.')} (see {path} --help)")
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else DELIVERED


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("packetwalk")
    except PackageNotFoundError:
        return "(not installed: run from its source)"


def _complain(*lines: str) -> int:
    for line in lines:
        print(f"packetwalk: {' '.join(line.split())}", file=sys.stderr)
    return BAD_INPUT
