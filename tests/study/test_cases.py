"""The cases on the device that trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from marginseg.data import Case, Dataset
from marginseg.study import cases
from marginseg.study.configuration import StudyConfig

GPU = torch.device("cuda")


def test_only_its_own_stream_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To wait for the whole device would break the graph that another thread captures."""
    waited: list[torch.device] = []

    def refuse(*_: object) -> None:
        raise AssertionError("it waits for the whole device")

    def current_stream(device: torch.device) -> Any:
        return SimpleNamespace(synchronize=lambda: waited.append(device))

    really_to = torch.Tensor.to

    def to(tensor: torch.Tensor, device: torch.device, *others: Any) -> torch.Tensor:
        return tensor.clone() if device == GPU else really_to(tensor, device, *others)

    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(cases, "_last", None)
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:6, 2:6, 2:6] = 1
    case = SimpleNamespace(
        name="one", image=label.astype(np.float32), label=label, spacing=(1.0, 1.0, 1.0)
    )
    dataset = cast("Dataset", SimpleNamespace(structure="cube", cases=[cast("Case", case)]))
    config = StudyConfig()
    (loaded,) = cases.loaded_cases(dataset, 0.03, 0, config, GPU)
    assert waited == [GPU]
    assert torch.equal(loaded.label, torch.from_numpy(label))
    assert cases.loaded_cases(dataset, 0.03, 0, config, GPU)[0] is loaded
    assert waited == [GPU]
