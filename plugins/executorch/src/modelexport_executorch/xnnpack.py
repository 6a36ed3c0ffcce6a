"""XNNPACK's partitioner, kept from what it would take and then fail at.

XNNPACK reshapes with one dynamic dim at most. ExecuTorch asks for that where it partitions a reshape, but not for
the reshapes that it adds itself: around a convolution over one dim, and for an `unsqueeze`.
"""

from __future__ import annotations

from typing import Any


def partitioner() -> Any:
    """An `XnnpackPartitioner` that leaves out what XNNPACK can't reshape."""
    from executorch.backends.xnnpack.partition import config
    from executorch.backends.xnnpack.partition.config.gemm_configs import ConvolutionConfig
    from executorch.backends.xnnpack.partition.config.generic_node_configs import UnsqueezeCopyConfig
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    careful = {kind: _careful(kind) for kind in (ConvolutionConfig, UnsqueezeCopyConfig)}
    return XnnpackPartitioner(configs=[careful.get(kind, kind) for kind in config.ALL_PARTITIONER_CONFIGS])


def _careful(kind: Any) -> Any:
    class Careful(kind):  # type: ignore[misc]
        def check_constraints(self, node: Any, ep: Any) -> bool:
            return _reshapes(node) and bool(super().check_constraints(node, ep))

    return Careful


def _reshapes(node: Any) -> bool:
    """Whether XNNPACK can reshape what an operator gives, if it has to: a 2-D convolution's planes stay."""
    import torch

    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or ("convolution" in str(node.target) and value.dim() != 3):
        return True
    return sum(not isinstance(size, int) for size in value.shape) <= 1
