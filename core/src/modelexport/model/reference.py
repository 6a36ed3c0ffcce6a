"""The live PyTorch model as a reference: call it with numpy arrays by name, name its outputs, keep its state.

The model is never changed: it is put into eval mode for the time of the work and given back as it was, and
buffers that its forward updates are restored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..contract.sources import Source
from ..contract.target import MODULE
from ..contract.tensors import Dim, TensorSpec
from ..errors import InputError, ReferenceError, a

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays


def parameters(module: Any) -> list[str]:
    """Names of the forward's parameters that can be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    return [name for name, parameter in signature.parameters.items() if parameter.kind in kinds]


def example_arrays(source: Source) -> Arrays:
    """The example inputs as arrays by input name. Raises InputError for anything but flat tensors."""
    example = source.example
    if isinstance(example, Mapping):
        return {name: to_numpy(value, f"example input {name!r}") for name, value in example.items()}
    values = example if isinstance(example, (tuple, list)) else (example,)
    declared = [spec.name for spec in source.specs]
    names = declared if len(declared) == len(values) else parameters(source.module)
    names = [*names, *(f"input_{index}" for index in range(len(names), len(values)))]
    return {name: to_numpy(value, f"example input {name!r}") for name, value in zip(names, values, strict=False)}


def to_numpy(value: Any, what: str) -> Array:
    """A tensor as a numpy array on the CPU; `what` names it in the InputError that anything else raises."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"{what} is {a(type(value).__name__)}, not a tensor",
            "wrap the model in a module whose forward takes tensors only, and return that from the factory",
        )
    value = value.detach().cpu().resolve_conj().resolve_neg()
    if value.dtype == torch.bfloat16:
        from ..contract.tensors import cast

        return cast(value.float().numpy(), "bfloat16")
    if value.layout != torch.strided:
        value = value.to_dense()
    try:
        array: Array = value.numpy()
    except TypeError as error:
        dtype = str(value.dtype).removeprefix("torch.")
        raise InputError(
            f"{what} is {dtype}, which NumPy does not have", "give and return it as a wider type, such as float32"
        ) from error
    return array


def to_torch(array: Array) -> Any:
    """A tensor with its own copy of the data: a model that works in place must not change the case."""
    import numpy as np
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=True, order="C"))


def is_program(subject: Any) -> bool:
    """Whether `subject` is a torch.export program rather than a live module."""
    return hasattr(subject, "call_spec") and hasattr(subject, "graph_signature")


def arguments(
    subject: Any, specs: Sequence[TensorSpec], tensors: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for one call of a module or program, from tensors by input name.

    A program takes them as it was captured; a module by name where its forward has these names, else by
    position. Raises InputError when only some of the names are parameters of the forward.
    """
    if is_program(subject):
        from torch.utils import _pytree

        args, kwargs = _pytree.tree_unflatten([tensors[spec.name] for spec in specs], subject.call_spec.in_spec)
        return tuple(args), dict(kwargs)
    module = subject
    known = parameters(module)
    names = [spec.name for spec in specs]
    strangers = [name for name in names if name not in known]
    if not strangers:
        return (), {name: tensors[name] for name in names}
    if len(strangers) < len(names):
        raise InputError(f"the model's forward has no parameter {strangers[0]!r}", f"it has {', '.join(known)}")
    return tuple(tensors[name] for name in names), {}


def reference(
    module: Any, specs: Sequence[TensorSpec], names: Sequence[str] = (), program: Any = None
) -> Callable[[Arrays], Arrays]:
    """A function from input to output arrays, both by name; it raises ReferenceError where the model fails.

    `program` is the torch.export program that `module` came from, if it did.
    """

    def call(inputs: Arrays) -> Arrays:
        import torch

        args, kwargs = arguments(
            program or module, specs, {name: to_torch(array) for name, array in inputs.items()}
        )
        try:
            with torch.no_grad():
                outputs = module(*args, **kwargs)
        except Exception as error:
            raise _eager_error(error, inputs, specs) from error
        return {
            name: to_numpy(value, f"output {name!r}").copy()  # it may be a buffer that the next call updates
            for name, value in name_outputs(outputs, names, [spec.name for spec in specs]).items()
        }

    return call


def _eager_error(error: Exception, inputs: Arrays, specs: Sequence[TensorSpec]) -> ReferenceError:
    from ..errors import first_line
    from ..usercode import user_frame

    where = user_frame(error)
    shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in inputs.items())
    dims = {size.name for spec in specs for size in spec.shape if isinstance(size, Dim)}
    hint = "the model itself fails on these inputs; --debug shows the whole trace"
    if dims:
        hint = f"declare the sizes and values it takes: --input 'NAME:DTYPE[{sorted(dims)[0]}=LOW..HIGH/STEP,…]'"
    return ReferenceError(
        f"the model fails in PyTorch on {shapes}{f' at {where}' if where else ''}: "
        f"{type(error).__name__}: {first_line(error)}",
        hint,
    )


def name_outputs(outputs: Any, names: Sequence[str], taken: Sequence[str] = ()) -> dict[str, Any]:
    """The tensors in a forward's return value by name: given names, dict keys, or `output`, `output_1`….

    A name that an input has gets the suffix `_out`, since most formats have one space of names.
    """
    import torch
    from torch.utils import _pytree

    leaves = [
        (path, leaf) for path, leaf in _pytree.tree_flatten_with_path(outputs)[0] if isinstance(leaf, torch.Tensor)
    ]
    if not leaves:
        raise ReferenceError(
            f"the model returns no tensor but {a(type(outputs).__name__)}",
            "return tensors, in tuples or dicts",
        )
    labels = [_output_name(path) for path, _ in leaves]
    if names:
        if len(names) != len(leaves):
            raise ReferenceError(
                f"{len(names)} output names are given, the model has {len(leaves)} outputs: {', '.join(labels)}",
                "name every output, in that order",
            )
        labels = list(names)
    unique: dict[str, Any] = {}
    for name, (_, leaf) in zip(labels, leaves, strict=True):
        if name in taken:
            name = f"{name}_out"
        while name in unique:
            name = f"{name}_"
        unique[name] = leaf
    return unique


def _output_name(path: Sequence[Any]) -> str:
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    if not parts:
        return "output"
    if parts[0].isdigit():
        parts[0] = f"output_{parts[0]}"
    return ".".join(parts)


# --------------------------------------------------------------------------------------- state


@contextmanager
def eval_mode(source: Source) -> Iterator[None]:
    """The module in eval mode inside the block, and each submodule in its own mode again afterwards."""
    if source.format != MODULE:
        yield
        return
    modes = [(module, module.training) for module in source.module.modules()]
    source.module.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class ModuleState:
    """The buffers and parameters of a module, to notice and undo what a forward does to them."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._buffers = {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers()}
        self._signature = self._sign()

    def _sign(self) -> list[tuple[str, int, int]]:
        tensors = [*self._module.named_parameters(), *self._module.named_buffers()]
        return [(name, id(tensor), tensor._version) for name, tensor in tensors]

    def changed(self) -> bool:
        return self._sign() != self._signature

    def restore(self) -> None:
        import torch

        with torch.no_grad():
            for name, (buffer, saved) in self._buffers.items():
                owner, _, leaf = name.rpartition(".")
                self._module.get_submodule(owner)._buffers[leaf] = buffer.copy_(saved)
        self._signature = self._sign()


def fingerprint(module: Any) -> str:
    """sha256 over the names, dtypes, shapes and bytes of a module's (or program's) state."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    state = module.state_dict() if callable(module.state_dict) else module.state_dict
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        for part in _stored(tensor):
            flat = part.detach().cpu().contiguous().reshape(-1)
            if flat.numel():
                digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _stored(tensor: Any) -> Iterator[Any]:
    """The plain tensors that a tensor is stored in: several for one of a class of its own, such as torchao's."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _stored(getattr(tensor, name))


def program_specs(program: Any) -> tuple[TensorSpec, ...]:
    """The inputs of an ExportedProgram: names, dtypes, and dims by the names the program has for them."""
    import torch

    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = values.get(name) if isinstance(name, str) else None
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"input {name!r} of the program is no tensor",
                "capture a module whose forward takes tensors only",
            )
        shape = tuple(_dim(size, program.range_constraints) for size in value.shape)
        specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), shape))
    return tuple(specs)


def _dim(size: Any, ranges: Mapping[Any, Any]) -> int | Dim:
    if isinstance(size, int):
        return size
    symbol = size.node.expr
    bounds = ranges.get(symbol)
    low = max(1, int(bounds.lower)) if bounds is not None else 1
    try:
        high = int(bounds.upper) if bounds is not None else None
    except (TypeError, OverflowError, ValueError):
        high = None
    return Dim(str(symbol), low, high if high is not None and high < 2**31 else None)
