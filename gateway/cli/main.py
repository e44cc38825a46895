"""The `pointsman` command: groups of commands put together, failures as one sentence."""

from __future__ import annotations

import gc
import logging
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from eval.errors import EvalError
from experts.errors import ExpertError
from gateway.errors import GatewayError
from routers.errors import RoutingError

_COMMANDS = {
    "demo": "Start real local experts, ask them through the endpoint, learn who is good at what.",
    "serve": "Serve the endpoint; local experts are started first and stopped at the end.",
    "chat": "Talk to the endpoint; an empty line ends the talk.",
    "collect": "Ask every expert every prompt through the endpoint; the ledger books all of it.",
    "train": "Fit a router and publish it as a version; `routers promote` makes it serve.",
    "evaluate": "Quality against cost of learned routers beside single experts, chance "
    "and the oracle.",
    "ope": "What a router would have been worth on logged requests; exit code 1 "
    "if the log can't tell.",
    "retrain": "Do the next step: fit and judge, look at a shadow, or at a trial.",
    "savings": "What was spent, and what one expert alone or the previous router would have spent.",
}
_GROUPS = {
    "routers": "List, promote and roll back router versions.",
    "experts": "The experts of the pool.",
    "keys": "Make, list, change, rotate and revoke keys.",
    "ledger": "The append-only book.",
    "shelves": "Examples and guidelines from the log.",
    "fleet": "Choose the experts to host.",
    "rounds": "Drivers of rounds: models that ask others.",
    "judges": "Judges and what their scores are worth.",
    "compose": "Compositions fitted to outcomes.",
}


class _Later(TyperCommand):
    """A command's name and what it does; its code is imported when it is run or asked for help."""

    def make_context(self, info_name: str | None, args: list[str], *given: Any, **more: Any) -> Any:
        return command(self.name or "").make_context(info_name, args, *given, **more)


class _Commands(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        said = {**_COMMANDS, **_GROUPS}
        self.commands = {name: _Later(name, help=text) for name, text in said.items()}


@cache
def command(name: str) -> Any:
    """The command of that name, imported: a server needs no code that trains."""
    # What modules define is there to stay: looking for garbage in it costs a tenth of the start.
    gc.disable()
    module = import_module(f"gateway.cli.{name}")
    gc.freeze()
    gc.enable()
    if name in _GROUPS:
        group = typer.main.get_group(module.commands)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    module.register(alone)
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    help="One endpoint in front of a pool of language models that learns who should answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"pointsman {version('pointsman')}\n")
        raise typer.Exit


@app.callback()
def _pointsman(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Which this is."),
    ] = False,
) -> None:
    """Makes this a group, though its commands come later."""


def main() -> None:
    """Entry point of the console script; every failure of ours is one line and exit code 1.

    So are those of the disk, which any command may meet.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except (GatewayError, ExpertError, RoutingError, EvalError) as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        folder = Path(error.filename).parent
        if isinstance(error, FileNotFoundError) and not folder.exists():
            # The file may be one of ours that would have been renamed at the end.
            _fail(f"there is no folder '{folder}'")
        # What was renamed has two names, and the second is the one that was asked for.
        _fail(f"'{error.filename2 or error.filename}': {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(why: str) -> NoReturn:
    # What draws tables is a third of this module's imports, and a server that starts draws none.
    from rich.markup import escape

    from gateway.cli.console import err

    err.print(f"[bold red]pointsman:[/] {escape(why)}", soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
