"""The `pointsman` command: groups of commands put together, failures as one sentence."""

from __future__ import annotations

import logging
import sys

import typer
from rich.markup import escape

from eval.errors import EvalError
from experts.errors import ExpertError
from gateway.cli import chat, collect, demo, evaluate, experts, keys, ledger, routers, serve, train
from gateway.cli.console import err
from gateway.errors import GatewayError
from routers.errors import RoutingError

app = typer.Typer(
    help="One endpoint in front of a pool of language models that learns who should answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (demo, serve, chat, collect, train, evaluate):
    module.register(app)
for group, name in (
    (routers, "routers"),
    (experts, "experts"),
    (keys, "keys"),
    (ledger, "ledger"),
):
    app.add_typer(group.commands, name=name)


def main() -> None:
    """Entry point of the console script; every failure of ours is one line and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except (GatewayError, ExpertError, RoutingError, EvalError) as error:
        err.print(f"[bold red]pointsman:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
