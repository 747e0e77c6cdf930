"""What an encoding lacks is replaced, whatever it is."""

from __future__ import annotations

import io
import sys

import pytest

from marginseg.cli.streams import allow_every_letter


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_letter_is_printed(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    allow_every_letter()
    text = "½ – ≥ \U0001f9e0 \udcff"
    expected = {
        "ascii": "1/2 - >= \\U0001f9e0 \\udcff",
        "latin-1": "½ - >= \\U0001f9e0 \\udcff",
        "utf-8": "½ – ≥ \U0001f9e0 \\udcff",
    }
    for stream in streams:
        stream.write(text)
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding) == expected[encoding]  # type: ignore[attr-defined]
