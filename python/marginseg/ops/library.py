"""The torch library ``marginseg`` that every op registers with."""

from __future__ import annotations

import torch

from marginseg.ops.boundary import share_thread_pool

share_thread_pool()

library = torch.library.Library("marginseg", "DEF")
