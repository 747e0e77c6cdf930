"""What a study hands to whoever executes its runs, and what it hears of them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from marginseg.data import Dataset
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.run_folder import RunFolder
from marginseg.training.state import Epoch


@dataclass(frozen=True)
class Task:
    """All that a process needs to execute a run; it can be sent to another.

    Attributes:
        run: Which.
        config: The study's.
        dataset: Of the run's structure; it carries file names.
        train_cases: Numbers of the cases to train on.
        test_cases: Numbers of those to test on.
        folder: Where checkpoint and result go.

    """

    run: Run
    config: StudyConfig
    dataset: Dataset
    train_cases: tuple[int, ...]
    test_cases: tuple[int, ...]
    folder: RunFolder


@dataclass(frozen=True)
class Outcome:
    """What an executor reports of a run.

    Attributes:
        run: Which.
        kind: ``"started"``, ``"epoch"``, ``"lost"`` (its process ended; it goes on from its
            checkpoint in another), ``"finished"`` or ``"failed"``.
        epoch: The last epoch done, for ``"epoch"``.
        error: One line, for ``"lost"`` and ``"failed"``.
        details: The traceback, for ``"failed"``.
        log: The file that has it; None where it could not be written.

    """

    run: Run
    kind: str
    epoch: Epoch | None = None
    error: str = ""
    details: str = ""
    log: Path | None = None


class Executor(AbstractContextManager[Any], Protocol):
    """Executes the runs of a study, within a ``with`` that lasts as long as the study.

    Entering gets hold of what it needs, such as a cluster; leaving gives that back, whatever
    happened in between. It may be entered again after that.
    """

    def __enter__(self) -> Self:
        """Get ready.

        Raises:
            ValueError: It cannot have what it needs.

        """

    def facts(self, runs: int) -> dict[str, Any]:
        """Return what ``environment.json`` says of it, for a study of so many runs.

        ``executor``, ``workers`` (runs at the same time), ``threads`` (that torch uses in each).

        Raises:
            ValueError: There is no room for a run.

        """

    def __call__(
        self,
        tasks: Sequence[Task],
        report: Callable[[Outcome], None],
        *,
        runs: int | None = None,
    ) -> None:
        """Execute tasks, in their order, and report every outcome in this process as it comes.

        A run that fails does not stop the others. An exception, Ctrl-C among them, ends what is
        under way; that goes on from its checkpoints the next time.

        Args:
            tasks: The runs that are left to do.
            report: Called with every outcome.
            runs: Of the whole study, those that are done among them; None: only these. The number
                of threads decides the last bits of a result, so what is chosen by the number of
                runs must not depend on how many are left.

        """


def failure(run: Run, folder: RunFolder, error: str, details: str) -> Outcome:
    """Return the outcome of a run that failed, and keep its log in its folder if that can be."""
    return Outcome(run, "failed", error=error, details=details, log=folder.write_error(details))


def one_line(error: BaseException) -> str:
    r"""Say what an error is, in one line.

    Where a full disk is behind it, that comes first: torch says only that its archive's writer
    failed.

    Example:
        >>> one_line(ValueError("two\nlines"))
        'ValueError: two lines'

    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error = seen
            break
        seen = seen.__cause__ or seen.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())
