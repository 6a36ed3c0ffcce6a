"""The toolchain's noise, kept off the terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager

from modelexport.toolkit import quiet as quiet_libraries


def quiet() -> AbstractContextManager[object]:
    """While the block lasts, nothing reaches the terminal of what LiteRT, TensorFlow and the converters write.

    What matters in it comes back as an exception. Progress is not shown inside either: tell a stage before.
    """
    return quiet_libraries(all_loggers=True, native=True, environment={"LITERT_TORCH_SHOW_PROGRESS": "n"})
