"""Does a captured program hold at every size that was declared?

torch.export follows one path through the model, at the sizes it was traced at, and keeps what it assumed
about them: as guards beside the graph, where they concern several dims at once, or as assertions in it.
Converters drop both. So an assumption must hold at every declared size, or the copy would be wrong at some.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

#: combinations of sizes at which one assumption is tried, at most; one takes a tenth of a millisecond
MOST_TRIALS = 5_000


def violated(program: Any) -> str | None:
    """The first assumption of an ExportedProgram that fails at some of its sizes, or None."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    values = [node.meta.get("val") for node in program.graph.nodes]
    modes = [value.fake_mode for value in values if hasattr(value, "fake_mode")]
    environment = modes[0].shape_env if modes else None
    if environment is None:
        return None
    assertion = torch.ops.aten._assert_scalar.default
    asserted = [node.args[0].meta["val"] for node in program.graph.nodes if node.target is assertion]
    conditions = [guard.expr for guard in environment.guards]
    conditions += [value.node.expr for value in asserted if hasattr(value, "node")]
    for condition in conditions:
        simple = environment.replace(condition)
        # A size that depends on data is the model's own affair: it had to assert that itself.
        if not free_unbacked_symbols(simple) and not _always(simple, program.range_constraints):
            return _readable(condition, environment.var_to_sources)
    return None


def _always(condition: Any, ranges: Mapping[Any, Any]) -> bool:
    """Whether `condition` is true at all sizes of its dims, tried one after another.

    Sizes well past every constant in the condition stand for all larger ones. Where there are too many
    combinations, sizes are taken in odd steps, and around each constant.
    """
    import sympy

    symbols = sorted(condition.free_symbols, key=str)
    if any(symbol not in ranges for symbol in symbols):
        return False
    constants = [abs(int(number)) for number in condition.atoms(sympy.Integer)]
    reach = 100 + 2 * max(constants, default=0)
    most = max(2, int(MOST_TRIALS ** (1 / max(1, len(symbols)))))
    choices = []
    for symbol in symbols:
        low = int(ranges[symbol].lower)
        high = int(min(ranges[symbol].upper, low + reach))
        step = math.ceil((high - low + 1) / most) | 1 if high - low >= most else 1
        around = {constant + offset for constant in constants for offset in (-1, 0, 1)} | {high}
        choices.append([*range(low, high + 1, step), *(size for size in around if low <= size <= high)])
    return all(
        condition.xreplace(dict(zip(symbols, map(sympy.Integer, trial), strict=True))) == sympy.true
        for trial in itertools.product(*choices)
    )


def _readable(condition: Any, sources: Mapping[Any, Any]) -> str:
    """The condition with `x.shape[2]` for torch's own symbols."""
    text = str(condition)
    for symbol, named in sources.items():
        if named:
            name = re.sub(r"L\['(\w+)'\](.*)\.size\(\)", r"\1\2.shape", named[0].name)
            text = re.sub(rf"\b{symbol}\b", name, text)
    return text
