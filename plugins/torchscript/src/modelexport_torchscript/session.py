"""model.pt → Session, in PyTorch, under inference mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session, TensorSpec
from modelexport.errors import CannotRunHere
from modelexport.toolkit import to_numpy, to_torch

from . import files, operators, schema
from .backend import silenced

if TYPE_CHECKING:
    from modelexport.contract import Array

    from . import RunOptions

#: what `details["at_load"]` may hold: a result that PyTorch can compute but not save
AT_LOAD = "optimize_for_inference"


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact.

    Raises CannotRunHere without the GPU asked for, RuntimeFailure for a bad file, UnsafeFileError for one that
    could touch files or processes, unless `options` allow it.
    """
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise CannotRunHere(
            "PyTorch finds no CUDA GPU here", "leave out -k device=cuda, or install torch with CUDA"
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    module = files.load(artifact.entry_path, options.device, options.allow_file_access)
    call = caller(
        module,
        artifact.inputs,
        [spec.name for spec in artifact.outputs],
        options.device,
        ready=as_it_runs(module, artifact),
    )
    details = {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    return Session(call, artifact.inputs, artifact.outputs, details=details)


def as_it_runs(module: Any, artifact: Artifact) -> Any:
    """What a session calls: `module`, the artifact's file as it was loaded, or what is made of it at each load."""
    return for_inference(module) if AT_LOAD in artifact.details.get("at_load", ()) else module


def for_inference(module: Any) -> Any:
    """The module rewritten by torch.jit.optimize_for_inference, with its other methods kept."""
    import torch

    with silenced():
        return torch.jit.optimize_for_inference(module.eval(), other_methods=schema.methods(module) or None)


def caller(
    module: Any, inputs: Sequence[TensorSpec], outputs: Sequence[str], device: str = "cpu", ready: Any = None
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The call of a Session: arrays are shared with PyTorch, unless the model writes to them or gives them back.

    `ready` is what to call where it is not `module` itself, which says what is written to and shared. The call
    raises RuntimeFailure where the model fails.
    """
    import numpy as np
    import torch

    order, names = [spec.name for spec in inputs], list(outputs)
    by_name = schema.takes_names(module, order)
    written, shared = schema.hazards(module)
    copied = set(order) if by_name else {name for name, hit in zip(order, written, strict=False) if hit}
    bfloat16 = {spec.name for spec in inputs if spec.dtype == "bfloat16"}
    run, from_numpy, inference_mode = module if ready is None else ready, torch.from_numpy, torch.inference_mode

    def tensor(name: str, array: Array) -> Any:
        if name in bfloat16:
            return to_torch(array)
        if name in copied or not (array.flags.writeable and array.flags.c_contiguous):
            array = np.array(array, order="C")
        return from_numpy(array)

    def numpy(value: Any) -> Array:
        try:
            array: Array = value.numpy()
        except (RuntimeError, TypeError):  # not a plain array: another device, bfloat16, a lazy conjugate
            array = to_numpy(value, "an output")
        return array.copy() if shared else array

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        try:
            with inference_mode():
                tensors = [tensor(name, arrays[name]) for name in order]
                if device != "cpu":
                    tensors = [value.to(device) for value in tensors]
                returned = run(**dict(zip(order, tensors, strict=True))) if by_name else run(*tensors)
                return {name: numpy(leaf) for name, leaf in zip(names, _leaves(returned), strict=True)}
        except Exception as error:
            raise operators.failed(error) from error

    return call


def _leaves(value: Any) -> Iterator[Any]:
    """The tensors in a model's outputs, in the order in which core names them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
