"""Every operator and module that PyTorch tests itself with, through capture, conversion and the gate.

    python tests/coverage/operators.py [--shard I/N] [--only NAME] [--json FILE]

`op_db` and `module_db` are the lists behind PyTorch's own tests: each entry makes sample inputs. Of each
entry that takes float32 the first sample is exported, with all of its tensors as inputs and everything else
fixed. See outcomes.py for what becomes of it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import outcomes
import torch
from modelexport.contract import Source
from outcomes import Outcome, Probe
from torch.utils import _pytree


class Call(torch.nn.Module):
    """A function of tensors: `arguments` with its tensors replaced by the forward's."""

    def __init__(self, function: Callable[..., Any], arguments: Any) -> None:
        super().__init__()
        self.function = function
        self.leaves, self.tree = _pytree.tree_flatten(arguments)
        self.leaves = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in self.leaves]

    def forward(self, *tensors: torch.Tensor) -> Any:
        rest = iter(tensors)
        leaves = [next(rest) if leaf is None else leaf[0] for leaf in self.leaves]
        args, kwargs = _pytree.tree_unflatten(leaves, self.tree)
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Entry:
    """One entry of the lists: `draw` gives a function and the (args, kwargs) of its first sample, by seed."""

    name: str
    draw: Callable[[int], tuple[Callable[..., Any], Any]]


def entries() -> list[Entry]:
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    usable = [operator for operator in op_db if operator.supports_dtype(torch.float32, "cpu")]
    found = [
        Entry(operator.formatted_name, lambda seed, it=operator: operator_sample(it, seed)) for operator in usable
    ]
    return found + [Entry(info.name, lambda seed, it=info: module_sample(it, seed)) for info in module_db]


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def operator_sample(operator: Any, seed: int) -> tuple[Callable[..., Any], Any]:
    seed_all(seed)
    sample = next(iter(operator.sample_inputs("cpu", torch.float32)))
    return operator.op, ((sample.input, *sample.args), sample.kwargs)


def module_sample(info: Any, seed: int) -> tuple[Callable[..., Any], Any]:
    """The module is the same for every seed, its inputs are not."""

    def sample(seed: int) -> Any:
        seed_all(seed)
        keywords = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": False}
        return next(iter(info.module_inputs_func(info, **keywords)))

    given = sample(seed).forward_input
    constructor = sample(0).constructor_input
    made = info.module_cls(*constructor.args, **constructor.kwargs)
    return made.eval(), (tuple(given.args), given.kwargs)


def probe(entry: Entry) -> Probe:
    """Another draw of the same sample; the first again where the draw changes more than values."""
    (function, arguments), source = entry.draw(1), "drawn anew"
    if signature(arguments) != signature(entry.draw(0)[1]):
        (function, arguments), source = entry.draw(0), "the sample's own"
    given = [tensor.detach().clone() for tensor in outcomes.tensors(arguments)]
    args, kwargs = arguments
    with torch.no_grad():
        return Probe(source, given, outcomes.tensors(function(*args, **kwargs)))


def signature(arguments: Any) -> str:
    """Everything about arguments but the values of their tensors."""
    leaves, tree = _pytree.tree_flatten(arguments)
    shown = [(leaf.dtype, leaf.shape) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return f"{tree} {shown}"


def model(entry: Entry) -> Source:
    function, arguments = entry.draw(0)
    example = tuple(tensor.detach() for tensor in outcomes.tensors(arguments))
    return Source(Call(function, arguments), example=example)


def left_out(entry: Entry) -> str:
    """Why an entry can't be exported at all, or nothing."""
    if entry.name.startswith(("empty", "new_empty")):
        return "the answer is whatever was in memory"
    return "" if outcomes.tensors(entry.draw(0)[1]) else "the first sample holds no tensor"


def run(chosen: list[Entry]) -> Iterator[Outcome]:
    warnings.simplefilter("ignore")
    with outcomes.exporter() as exporter:
        for entry in chosen:
            if reason := left_out(entry):
                yield Outcome(entry.name, outcomes.LEFT_OUT, message=reason)
                continue
            yield exporter.outcome(entry.name, lambda it=entry: model(it), lambda _, it=entry: probe(it))


def main() -> None:
    options = outcomes.arguments(__doc__)
    index, count = options.shard
    outcomes.collect(run([entry for entry in entries()[index::count] if options.only in entry.name]), options.json)


if __name__ == "__main__":
    main()
