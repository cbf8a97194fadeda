"""The command line `revrec`. Each command is one module here; what it does is in the domain.

Exit codes: 0 done (also when rows were flagged), 1 something failed, 2 what was asked for or set is
wrong. Errors are one line on stderr.
"""

import os
import sys
from keyword import iskeyword
from typing import NoReturn

import click

from revrec_pipeline.cli.outside import explain
from revrec_pipeline.errors import RevrecError

_COMMANDS = {
    "demo": "demo",
    "sandbox": "sandbox",
    "sync": "sync",
    "import": "imports",
    "order": "entries",
    "expense": "entries",
    "delivery": "entries",
    "customer": "entries",
    "product": "entries",
    "jobs": "jobs",
    "job": "jobs",
    "conversion-file": "jobs",
    "errors": "errors",
    "trace": "trace",
    "matches": "matches",
    "period": "period",
    "export": "export",
    "connections": "connections",
    "broken": "broken",
    "dev": "dev",
}

# NumPy and Arrow start threads when they are imported, which nothing here uses; a process that is
# forked has to have one thread only (ADR 20).
_ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class _Commands(click.Group):
    """Imports a command's module when it is asked for: `revrec --help` need not load Dagster."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = __import__(f"{__name__}.{_COMMANDS[cmd_name]}", fromlist=["_"])
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_" if iskeyword(name) else name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="revrec-pipeline", message="revrec %(version)s")
def revrec() -> None:
    """Closed sales, invoices and credit notes from your systems into one revenue ledger.

    \b
    A first look:      revrec demo
    Daily work:        revrec sync, revrec errors, revrec jobs
    The Dagster UI:    revrec dev

    Settings are read from revrec.toml in this folder (or the file that REVREC_CONFIG names),
    secrets from the environment. Everything that is pulled and produced lies below REVREC_HOME
    (default: .revrec).
    """


def main() -> None:
    """Run the command line; errors of `RevrecError` become one line and their exit code."""
    for name, value in _ONE_THREAD.items():
        os.environ.setdefault(name, value)
    try:
        revrec.main(prog_name="revrec", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        _fail("interrupted; the next run continues where this one stopped", 1)
    except click.ClickException as wrong:
        _fail(_usage(wrong), wrong.exit_code)
    except RevrecError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        _fail(reason, 1)


def _usage(wrong: click.ClickException) -> str:
    """Click's three lines as one."""
    message = wrong.format_message().rstrip(".")
    context = wrong.ctx if isinstance(wrong, click.UsageError) else None
    return f"{message}; see `{context.command_path} --help`" if context else message


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)
