"""model.pt → Session, in PyTorch, under inference mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session, TensorSpec
from modelexport.errors import CannotRunHere, InputError, RuntimeFailure, first_line, is_disk_error
from modelexport.toolkit import to_numpy, to_torch

from .compiling import underlined
from .deprecation import quiet

if TYPE_CHECKING:
    from modelexport.contract import Array

    from . import RunOptions

#: what `details["at_load"]` may hold: a result that PyTorch can compute but not save
AT_LOAD = "optimize_for_inference"


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact. Raises CannotRunHere without the GPU asked for, RuntimeFailure for a bad file."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise CannotRunHere(
            "PyTorch finds no CUDA GPU here", "leave out -k device=cuda, or install torch with CUDA"
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    module = load_file(artifact.entry_path, options.device)
    call = caller(
        module,
        artifact.inputs,
        [spec.name for spec in artifact.outputs],
        options.device,
        ready=for_inference(module) if AT_LOAD in artifact.details.get("at_load", ()) else None,
    )
    details = {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    return Session(call, artifact.inputs, artifact.outputs, details=details)


def load_file(path: Path, device: str = "cpu") -> Any:
    """The script module in a file; nothing is unpickled into Python objects. Raises RuntimeFailure."""
    import torch

    try:
        with quiet():
            return torch.jit.load(str(path), map_location=device)
    except Exception as error:
        if is_disk_error(error):
            raise
        raise RuntimeFailure(
            f"PyTorch can't load {path.name}: {first_line(error)}", "a newer torch may: pip install -U torch"
        ) from error


def for_inference(module: Any) -> Any:
    """The module rewritten by torch.jit.optimize_for_inference, with its other methods kept."""
    import torch

    with quiet():
        return torch.jit.optimize_for_inference(module.eval(), other_methods=methods(module) or None)


def caller(
    module: Any, inputs: Sequence[TensorSpec], outputs: Sequence[str], device: str = "cpu", ready: Any = None
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The call of a Session: arrays are shared with PyTorch, unless the model writes to them or gives them back.

    `ready` is what to call where it is not `module` itself, which says what is written to and shared.
    """
    import numpy as np
    import torch

    order = [spec.name for spec in inputs]
    by_name = takes_names(module, order)
    written, shared = hazards(module)
    mine = {name for name, hit in zip(order, written, strict=False) if hit} if not by_name else set(order)
    bfloat16 = {spec.name for spec in inputs if spec.dtype == "bfloat16"}
    run, from_numpy, inference_mode = ready or module, torch.from_numpy, torch.inference_mode
    names = list(outputs)

    def tensor(name: str, array: Array) -> Any:
        if name in bfloat16:
            return to_torch(array)
        if name in mine or not (array.flags.writeable and array.flags.c_contiguous):
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
                found = run(**dict(zip(order, tensors, strict=True))) if by_name else run(*tensors)
                return {name: numpy(leaf) for name, leaf in zip(names, leaves(found), strict=True)}
        except Exception as error:
            raise failure(error) from error

    return call


def leaves(value: Any) -> Iterator[Any]:
    """The tensors in a model's outputs, in the order in which core names them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)


def hazards(module: Any) -> tuple[list[bool], bool]:
    """Which inputs the model writes to; whether an output may be the memory of an input, weight or buffer."""
    graph = module.inlined_graph
    aliases = graph.alias_db()
    given = list(graph.inputs())[1:]
    kept = [
        o for kind in ("prim::GetAttr", "prim::Constant") for n in graph.findAllNodes(kind) for o in n.outputs()
    ]
    held = [*given, *(value for value in kept if "Tensor" in str(value.type()))]
    shared = any(aliases.may_contain_alias(out, value) for out in graph.outputs() for value in held)
    return [aliases.has_writers(value) for value in given], shared


def takes_names(module: Any, names: Sequence[str]) -> bool:
    """Whether inputs go in by name: where forward has their names, in another order. Raises InputError."""
    known = [argument.name for argument in module.forward.schema.arguments[1:]]
    if names == known[: len(names)] or not set(names) & set(known):
        return False
    strangers = [name for name in names if name not in known]
    if strangers:
        raise InputError(f"the model's forward has no parameter {strangers[0]!r}", f"it has {', '.join(known)}")
    return True


def signature(module: Any) -> str:
    """Forward as C++ calls it: `forward(Tensor x, int sr) -> Tensor`."""
    schema = module.forward.schema
    given = ", ".join(f"{argument.type} {argument.name}" for argument in schema.arguments[1:])
    return f"forward({given}) -> {', '.join(str(value.type) for value in schema.returns)}"


def methods(module: Any) -> list[str]:
    """Everything callable in it but forward."""
    return sorted(name for name in module._c._method_names() if name != "forward")


def thawed(module: Any) -> bool:
    """Whether it can be frozen still: a frozen module has no mode any more."""
    return hasattr(module, "training")


def in_training(module: Any) -> bool:
    return any(getattr(part, "training", False) for part in module.modules())


def failure(error: Exception) -> RuntimeFailure:
    said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    where = underlined(error, last=True)
    return RuntimeFailure(
        f"TorchScript failed{f' at {where}' if where else ''}: {said[-1]}",
        "check the inputs' sizes and values; --debug shows the trace",
    )
