"""The `pointsman` command: groups of commands put together, failures as one sentence."""

from __future__ import annotations

import gc
import logging
import sys
from collections import UserDict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from eval.errors import EvalError
from experts.errors import ExpertError
from gateway.cli.console import err
from gateway.errors import GatewayError
from routers.errors import RoutingError

_COMMANDS = ("demo", "serve", "chat", "collect", "train", "evaluate", "ope", "retrain", "savings")
_GROUPS = (
    "routers",
    "experts",
    "keys",
    "ledger",
    "shelves",
    "fleet",
    "rounds",
    "judges",
    "compose",
)


class _Imported(UserDict[str, Any]):
    """Commands by name, each imported when it is asked for: a server needs no code that trains."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _command(name)
        return self.data[name]


def _command(name: str) -> Any:
    # What modules define is there to stay: looking for garbage in it costs a tenth of the start.
    gc.disable()
    module = import_module(f"gateway.cli.{name}")
    gc.freeze()
    gc.enable()
    if name in _COMMANDS:
        alone = typer.Typer(add_completion=False)
        module.register(alone)
        return typer.main.get_command(alone)
    group = typer.main.get_group(module.commands)
    group.name = name
    return group


class _Commands(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Imported(dict.fromkeys((*_COMMANDS, *_GROUPS)))


app = typer.Typer(
    cls=_Commands,
    help="One endpoint in front of a pool of language models that learns who should answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
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
        _fail(f"'{error.filename}': {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(why: str) -> NoReturn:
    err.print(f"[bold red]pointsman:[/] {escape(why)}", soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
