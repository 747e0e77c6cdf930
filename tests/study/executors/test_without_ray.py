"""Where Ray is not installed."""

from __future__ import annotations

import pytest

from marginseg.study.executors import RayExecutor


def test_a_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginseg.study.executors.ray.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^executor: Ray is not installed.*marginseg\[ray\]"):
        RayExecutor()
