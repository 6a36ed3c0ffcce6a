"""transformers and ModelOpt, kept off the terminal: what matters in what they say becomes an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelexport.toolkit import quiet

#: distributions whose versions belong in the lineage of a checkpoint
TOOLS = ("torch", "transformers", "nvidia-modelopt")


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the progress bars, warnings and reports of transformers and ModelOpt off the terminal."""
    # torchao, where it is installed, is imported by transformers, and warns of kernels for GPUs that it can't load
    with quiet("torchao", "torch.utils._pytree", stdout=True):
        import transformers  # noqa: F401  it sets the level of its own logger as it is imported

        with quiet("transformers"):
            yield
