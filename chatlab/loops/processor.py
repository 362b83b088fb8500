"""The processor that the loops are compiled for: this machine's, or another that numba was told of.

In: what LLVM finds here, and numba's settings. Out: a name and features, by LLVM's names. Knows nothing of the loops.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from numba import config

__all__ = ["FEATURES", "NAME", "has"]

NAME: str = config.CPU_NAME or llvm.get_host_cpu_name()
FEATURES: str = llvm.get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES


def has(feature: str) -> bool:
    """Whether the processor has a feature.

    >>> has("a hundred hands")
    False
    """
    return f"+{feature}" in FEATURES.split(",")
