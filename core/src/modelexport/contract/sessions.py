"""A loaded model that takes and returns arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MxError, RuntimeFailure, first_line
from .tensors import Dim, TensorSpec, check_inputs

if TYPE_CHECKING:
    from types import TracebackType

    from .tensors import Array


class Session:
    """A loaded model: `session({name: array}) -> {name: array}`; a context manager.

    Plugins return one from `mx_run`. `call` gets inputs whose names, dtypes, ranks and sizes were checked,
    and returns every output by name; an error that is no MxError becomes RuntimeFailure. The check costs about a
    microsecond an input. `details` says what the
    runtime makes of it, and `note` is a line about this machine that `mx run` shows on stderr.
    """

    def __init__(
        self,
        call: Callable[[Mapping[str, Array]], dict[str, Array]],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec] = (),
        close: Callable[[], None] | None = None,
        details: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> None:
        self._call: Callable[[Mapping[str, Array]], dict[str, Array]] | None = call
        self._close = close
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.details = dict(details or {})
        self.note = note
        self._expected = tuple(
            (spec.name, _native_dtype(spec.dtype), len(spec.shape), _allowed_sizes(spec)) for spec in self.inputs
        )
        self._shared = _shared_axes(self.inputs)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        call = self._call
        if call is None:
            raise InputError("the session is closed", "load the artifact again")
        if not self._fits(inputs):
            check_inputs(inputs, self.inputs)
        try:
            return call(inputs)
        except MxError:
            raise
        except Exception as error:
            raise RuntimeFailure(
                f"the model failed: {type(error).__name__}: {first_line(error)}",
                "check the artifact with `mx verify`; --debug shows the whole trace",
            ) from error

    def _fits(self, inputs: Mapping[str, Array]) -> bool:
        """The fast half of `check_inputs`: it only says whether something is wrong."""
        if len(inputs) != len(self._expected):
            return False
        try:
            for name, dtype, rank, sizes in self._expected:
                array = inputs[name]
                shape = array.shape
                if array.dtype != dtype or len(shape) != rank:
                    return False
                for axis, allowed in sizes:
                    if shape[axis] not in allowed:
                        return False
            for name, axis, other, other_axis in self._shared:
                if inputs[name].shape[axis] != inputs[other].shape[other_axis]:
                    return False
        except (KeyError, AttributeError):
            return False
        return True

    def close(self) -> None:
        """Release the runtime. Safe to call twice."""
        close, self._call, self._close = self._close, None, None
        if close is not None:
            close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _native_dtype(name: str) -> Any:
    """The numpy dtype: comparing two of them is an identity check, comparing names builds a string."""
    import numpy as np

    try:
        return np.dtype(name)
    except TypeError:  # bfloat16 and friends exist in ml_dtypes only
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _allowed_sizes(spec: TensorSpec) -> tuple[tuple[int, range], ...]:
    """Every axis with the sizes it may have: a range knows steps too, and asks for no loop."""
    return tuple(
        (axis, range(size, size + 1) if isinstance(size, int) else size.sizes)
        for axis, size in enumerate(spec.shape)
    )


def _shared_axes(specs: Sequence[TensorSpec]) -> tuple[tuple[str, int, str, int], ...]:
    """Pairs of axes that must have one size, each with the first axis of that dim."""
    first: dict[str, tuple[str, int]] = {}
    pairs = []
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, Dim):
                other = first.setdefault(size.name, (spec.name, axis))
                if other != (spec.name, axis):
                    pairs.append((spec.name, axis, *other))
    return tuple(pairs)
