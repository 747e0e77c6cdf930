"""One line and an exit status for everything that can go wrong."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from marginseg.cli.streams import allow_every_letter
from marginseg.files.names import printable

#: Exit statuses: a study with failed runs, bad input or usage, Ctrl-C (128 + SIGINT).
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

#: Click's class of all usage errors; which package holds it depends on the version of Typer.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


class OneLineErrors(TyperGroup):
    """Turn errors into one line on stderr; anything unforeseen keeps its traceback."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line and exit: 0, 1 (failed runs), 2 (bad input), 130 (Ctrl-C)."""
        allow_every_letter()
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            status = super().main(args, standalone_mode=False, **extra)
        except USAGE_ERROR as error:
            _fail(error.format_message(), BAD_INPUT)
        except (KeyboardInterrupt, typer.Abort):
            _fail("interrupted", INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what its input or the disk is to blame for gets one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output has gone (`marginseg info | head -1`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            _fail(where + (error.strerror or str(error)), BAD_INPUT)
        except (ValueError, TypeError, MemoryError) as error:
            if os.environ.get("MARGINSEG_TRACEBACK"):
                raise
            _fail(named_by_option(str(error) or type(error).__name__), BAD_INPUT)


class SeveralValues(TyperCommand):
    """A command whose list options take several values after one name: ``--std 0 0.03 0.06``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each of its values, as Click wants it."""
        numeric = _takes_numbers(self.callback)
        several = {
            name: param.name in numeric
            for param in self.params
            if getattr(param, "multiple", False)
            for name in param.opts
        }
        args = _repeat_names(args, several)
        options = {name for param in self.params if param.name in numeric for name in param.opts}
        _refuse_underscores(args, options, ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run it, and let messages name its options."""
        _parameters.set(self.params)
        return super().invoke(ctx)


#: Those of the command that runs.
_parameters: ContextVar[Sequence[Any]] = ContextVar("parameters", default=())

#: What the library calls what an option sets, where the two names differ.
SETTINGS = {"structures": "structure", "patch_shape": "patch", "cache_dir": "cache"}


def named_by_option(message: str) -> str:
    """Name the option in the place of the library's argument: ``folds: expected ...``."""
    found = re.match(r"\w+(?=: )", message)
    if not found:
        return message
    name = SETTINGS.get(found[0], found[0])
    for parameter in _parameters.get():
        options = [option for option in parameter.opts if option.startswith("--")]
        if parameter.name == name and options:
            return options[0] + message[found.end() :]
    return message


def _takes_numbers(callback: Any) -> set[str]:
    """Return which parameters of a command are numbers, or lists of them."""

    def kinds(hint: Any) -> Iterator[Any]:
        yield hint
        for part in get_args(hint):
            yield from kinds(part)

    hints = get_type_hints(inspect.unwrap(callback))
    return {
        name
        for name, hint in hints.items()
        if any(kind is int or kind is float for kind in kinds(hint))
    }


def _refuse_underscores(args: Sequence[str], options: set[str], ctx: Any) -> None:
    """Refuse ``--folds 1_0``: Python reads 10, and whoever mistyped it did not mean that."""
    for place, argument in enumerate(args):
        if argument == "--":
            return
        name, given, value = argument.partition("=")
        if name in options:
            value = value if given else "".join(args[place + 1 : place + 2])
            if "_" in value:
                raise typer.BadParameter(f"{value!r} is no number.", ctx=ctx, param_hint=name)


def _repeat_names(args: Sequence[str], several: dict[str, bool]) -> list[str]:
    """Expand ``--std 0 1`` to ``--std 0 --std 1``; numeric options take only numbers."""
    expanded: list[str] = []
    current: str | None = None  # the list option whose further values may follow
    awaiting = False  # its first value comes next, whatever it looks like
    for place, argument in enumerate(args):
        if argument == "--":
            return [*expanded, *args[place:]]
        name = argument.partition("=")[0]
        if awaiting:
            awaiting = False
        elif name in several:
            current, awaiting = name, "=" not in argument
        elif current is not None and _continues(argument, numeric=several[current]):
            expanded.append(current)
        else:
            current = None
        expanded.append(argument)
    return expanded


def _continues(argument: str, *, numeric: bool) -> bool:
    if not numeric:
        return not argument.startswith("-")
    try:
        float(argument)
    except ValueError:
        return False
    return True


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"marginseg: {printable(' '.join(message.split()))}", err=True)
    sys.exit(status)
