"""What a mutant is: one mistake, and the tests that have to notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A mistake that could be made in one place of the code.

    Attributes:
        name: For `--only`.
        file: Where, relative to the checkout.
        text: What stands there, once in the whole file.
        replacement: What would stand there by mistake.
        wrong: What is wrong then, in one sentence.
        tests: Those that have to fail, as pytest names them.

    """

    name: str
    file: str
    text: str
    replacement: str
    wrong: str
    tests: tuple[str, ...]

    @property
    def compiled(self) -> bool:
        return self.file.startswith("csrc/")

    def applied_to(self, source: str) -> str:
        if source.count(self.text) != 1:
            raise ValueError(
                f"{self.name}: expected its text once in {self.file}, got {source.count(self.text)}"
            )
        return source.replace(self.text, self.replacement)
