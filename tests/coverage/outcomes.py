"""What became of one export: the four outcomes, and a check of its own of every verified artifact.

Nothing here uses the gate's code or its budget: an artifact that the gate passed is loaded with ONNX Runtime
alone and compared with PyTorch by a criterion that is written down here.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
from modelexport import api
from modelexport.contract import Artifact, LoadOptions
from modelexport.errors import MxError, ParityError
from modelexport.gate import worker
from modelexport.model import resolve
from modelexport.work import convert, prepare
from modelexport.work.requests import Verification

VERIFIED = "equal"
REFUSED = "refused with a reason"
WRONG = "caught wrong"
ESCAPED = "verified and wrong"
CRASHED = "crashed"
LEFT_OUT = "left out"
ORDER = (VERIFIED, REFUSED, WRONG, ESCAPED, CRASHED, LEFT_OUT)

#: of the check here: |y - r| <= ATOL + RTOL * |r| + RTOL / 10 * max|r|
ATOL, RTOL = 1e-4, 1e-3

PLAIN = LoadOptions()


@dataclass(frozen=True)
class Outcome:
    """One row: `error` is the class of what was raised, `gap` the check's largest difference."""

    name: str
    outcome: str
    error: str = ""
    message: str = ""
    inputs: str = ""
    gap: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Probe:
    """Inputs and PyTorch's own answers to them, for the check; `inputs` says where they come from."""

    inputs: str
    given: Sequence[Any]
    answers: Sequence[Any]


class Exporter:
    """Exports one model after another; all verifications run in one process, another one after a crash."""

    def __init__(self, folder: Path, child: Callable[[], worker.Child]) -> None:
        self._folder = folder
        self._child = child

    def outcome(
        self, name: str, model: Callable[[], Any], probe: Callable[[Artifact], Probe], options: LoadOptions = PLAIN
    ) -> Outcome:
        """Export what `model` gives (anything that `mx.export` takes), and check it with `probe` if it passed."""
        started = time.monotonic()
        final = self._folder / "model.onnx"
        error, message, checked, gap = "", "", "", 0.0
        try:
            job = prepare.prepare(resolve.resolve(model(), options))
            artifact = convert.make(job, "onnx", final, Verification(child=self._child()))
            found = probe(api.load(artifact.path))
            checked, gap = found.inputs, check(artifact.entry_path, found)
            outcome = VERIFIED
        except ParityError as caught:
            outcome, error, message = WRONG, type(caught).__name__, caught.message
        except MxError as caught:
            outcome, error, message = REFUSED, type(caught).__name__, caught.message
        except Wrong as caught:
            outcome, message = ESCAPED, str(caught)
        except Exception as caught:
            outcome, error = CRASHED, type(caught).__name__
            message = "".join(traceback.format_exception(caught)).strip()
        for path in self._folder.iterdir():
            shutil.rmtree(path)
        return Outcome(name, outcome, error, message, checked, gap, round(time.monotonic() - started, 2))


@contextmanager
def exporter() -> Iterator[Exporter]:
    """An Exporter with its folder and its process; both end with the block."""
    with TemporaryDirectory(prefix="mx-coverage-") as folder, shared_tables(), ExitStack() as stack:
        children: list[worker.Child] = []

        def alive() -> worker.Child:
            if not children or not children[-1].alive:
                children.append(stack.enter_context(worker.start("verifying an artifact")))
            return children[-1]

        yield Exporter(Path(folder), alive)


@contextmanager
def shared_tables() -> Iterator[None]:
    """Build torch.onnx's tables of operators once instead of for each export: it is most of a small one's time.

    They depend on the opset alone. They are private to torch; where they move, this function goes.
    """
    from torch._export import utils as export_utils
    from torch.onnx._internal.exporter import _registration

    build = cache(_registration.ONNXRegistry.from_torchlib)

    def from_torchlib(opset_version: int = _registration._constants.TORCHLIB_OPSET) -> Any:
        registry = copy.copy(build(opset_version))
        registry.functions = {name: list(metas) for name, metas in registry.functions.items()}
        return registry

    collect = "_collect_all_valid_cia_ops_for_namespace"
    with (
        patch.object(_registration.ONNXRegistry, "from_torchlib", staticmethod(from_torchlib)),
        patch.object(export_utils, collect, cache(getattr(export_utils, collect))),
    ):
        yield


# --------------------------------------------------------------------------------------- the check


class Wrong(Exception):
    """The artifact answers something else than PyTorch."""


def check(path: Path, probe: Probe) -> float:
    """The largest difference between the file's answers and the probe's; raises Wrong above the tolerance."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    given = dict(zip(names, (array(value) for value in probe.given), strict=True))
    got = session.run(None, given)
    want = [array(value) for value in probe.answers]
    if len(got) != len(want):
        raise Wrong(f"{len(got)} outputs, PyTorch gives {len(want)}")
    return max((difference(index, *pair) for index, pair in enumerate(zip(got, want, strict=True))), default=0.0)


def difference(index: int, got: Any, want: Any) -> float:
    """Max abs difference of one output; raises Wrong for another shape, dtype, or values too far away."""
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        raise Wrong(f"output {index} is {got.dtype}{list(got.shape)}, in PyTorch {want.dtype}{list(want.shape)}")
    if want.dtype.kind not in "fc":
        if not np.array_equal(got, want):
            raise Wrong(f"output {index}: {int((got != want).sum())} of {want.size} values differ")
        return 0.0
    finite = np.isfinite(want)
    scale = float(np.abs(want[finite]).max(initial=0.0))
    if not np.allclose(got, want, RTOL, ATOL + RTOL / 10 * scale, equal_nan=True):
        gap = np.abs(got[finite] - want[finite]).max(initial=0.0)
        raise Wrong(f"output {index}: max abs difference {gap:.3g} at magnitude {scale:.3g}")
    return float(np.abs(got[finite] - want[finite]).max(initial=0.0))


def array(value: Any) -> Any:
    return value.detach().resolve_conj().resolve_neg().numpy()


def tensors(tree: Any) -> list[Any]:
    """The tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


# --------------------------------------------------------------------------------------- the command line


def arguments(about: str | None) -> argparse.Namespace:
    """The options of both scripts; `shard` is (index, count)."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", default="0/1", help="I/N: every Nth entry, from the Ith on")
    parser.add_argument("--only", default="", help="entries with this in their name")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    options.shard = tuple(map(int, options.shard.split("/")))
    return options


def collect(rows: Iterable[Outcome], file: Path | None) -> None:
    """Print each row as it comes, then the counts; write all of them to `file` as JSON. Exits 1 on a bug."""
    done = []
    for row in rows:
        done.append(row)
        last = row.message.splitlines()[-1][:150] if row.message else ""
        print(f"{row.seconds:7.2f} s  {row.name:48s} {row.outcome:22s} {row.error} {last}".rstrip(), flush=True)
    counts = Counter(row.outcome for row in done)
    print("; ".join(f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome]))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([asdict(row) for row in done], indent=1), encoding="utf-8")
    sys.exit(1 if counts[CRASHED] or counts[ESCAPED] else 0)
