"""The command line: ``marginseg study | ceiling | evaluate | threshold | noise | ...``.

Torch and Matplotlib are imported by the commands that need them, so that help comes at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from marginseg.cli.ceiling import ceiling
from marginseg.cli.errors import OneLineErrors, SeveralValues
from marginseg.cli.evaluate import evaluate
from marginseg.cli.marginals import marginals
from marginseg.cli.noise import noise
from marginseg.cli.prepare import prepare
from marginseg.cli.show import figure1, info
from marginseg.cli.study import study
from marginseg.cli.threshold import threshold

app = typer.Typer(
    name="marginseg",
    cls=OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def marginseg(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version, and end.")] = False,
) -> None:
    """Label noise, its marginals, and the threshold that Dice asks for.

    Volumes are NIfTI files (.nii, .nii.gz), one, many, or folders of them; what is written keeps
    the affine, spacing and header of what was read. An existing output file is replaced, and never
    left half-written. Bad input gets one line on stderr and exit status 2.
    """
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"marginseg {version_of('marginseg')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (study, ceiling, prepare, evaluate, threshold, noise, marginals, figure1, info):
    app.command(cls=SeveralValues)(command)


def main() -> None:
    """Run the command line."""
    app()


__all__ = ["app", "main"]
