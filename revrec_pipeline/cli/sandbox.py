"""`revrec sandbox`: the vendors' APIs on this machine, with made-up data."""

import shlex
from contextlib import suppress

import click

DEFAULT_PORT = 8765


@click.command(short_help="Serve the sandbox: the vendors' APIs with made-up data.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes any free one.",
)
@click.option(
    "--env", "print_env", is_flag=True, help="Print the settings that point every source at it."
)
def sandbox(port: int, print_env: bool) -> None:
    """Serve the sandbox until Ctrl-C: one small company in every source system.

    It speaks the vendors' protocols as strictly as they do: it checks credentials and versions,
    pages, limits, and refuses unknown parameters. Use it like this:

    \b
    revrec sandbox &
    eval "$(revrec sandbox --env)"
    revrec sync
    """
    from revrec_pipeline.sandbox.server import HOST, sandbox_env, serve

    if print_env:
        for name, value in sandbox_env(f"http://{HOST}:{port}").items():
            click.echo(f"export {name}={shlex.quote(value)}")
        return
    with suppress(KeyboardInterrupt):  # that is how it ends
        serve(port, lambda origin: click.echo(f"Sandbox: {origin}  (stop with Ctrl-C)", err=True))
