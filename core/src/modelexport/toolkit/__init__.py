"""What plugins share, and the few names of the rooms below that they may use.

Importing this package is cheap: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import face

__all__ = [
    "KOTLIN_DOLLAR",
    "OPEN_END",
    "Case",
    "DescribedSource",
    "Golden",
    "GoldenCase",
    "LeaveOut",
    "ModuleState",
    "Signature",
    "Unsupported",
    "Value",
    "Verdict",
    "batches",
    "bound_notes",
    "bounded",
    "bounds",
    "call_arguments",
    "cases_to_time",
    "check_dtypes",
    "check_path",
    "check_pretrained",
    "check_readable",
    "check_regular",
    "commented",
    "compare",
    "compare_all",
    "compute_golden",
    "constant",
    "copy_as",
    "count",
    "declared",
    "describe_source",
    "dynamic_shapes",
    "eval_mode",
    "failed",
    "generate_at",
    "generate_cases",
    "identifier",
    "importable",
    "innermost_line",
    "latency_ratios",
    "left_as_they_are",
    "listed",
    "load_golden",
    "load_program",
    "low_sizes",
    "matching",
    "middle_sizes",
    "module_path",
    "module_reference",
    "name_outputs",
    "open_calibration",
    "open_regular",
    "output_specs",
    "parse_json",
    "pixels",
    "quiet",
    "quoted",
    "read_json",
    "reading",
    "recaptured",
    "refusal",
    "scratch",
    "signature",
    "size_combinations",
    "size_in_file",
    "small_size",
    "source_line",
    "split_data",
    "stage",
    "steps",
    "to_numpy",
    "to_torch",
    "trace_inputs",
    "translated",
    "user_frame",
    "verdict",
    "without",
]

if TYPE_CHECKING:
    from ..accuracy.judge import split_data
    from ..contract.progress import count, stage, steps
    from ..data.images import pixels
    from ..data.samples import open_samples as open_calibration
    from ..gate.cases import OPEN_END, Case, generate_at, low_sizes, middle_sizes
    from ..gate.cases import generate as generate_cases
    from ..gate.compare import compare, compare_all
    from ..gate.golden import Golden, GoldenCase, output_specs
    from ..gate.golden import compute as compute_golden
    from ..gate.golden import load as load_golden
    from ..jsontext import parse_json, read_json
    from ..model.capture import dynamic_shapes, trace_inputs
    from ..model.inputs import DescribedSource
    from ..model.inputs import describe as describe_source
    from ..model.narrow import recaptured
    from ..model.pt2 import load_program
    from ..model.reference import ModuleState, eval_mode, name_outputs, to_numpy, to_torch
    from ..model.reference import arguments as call_arguments
    from ..model.reference import reference as module_reference
    from ..plugins.installed import importable
    from ..quiet import quiet
    from ..regular import check_path, check_regular, open_regular
    from ..store.scratch import scratch
    from ..usercode import user_frame
    from .candidates import Verdict, verdict
    from .failures import failed, translated
    from .files import check_readable, copy_as, declared, reading, size_in_file
    from .imports import without
    from .latency import cases_to_time, latency_ratios
    from .operators import Unsupported, check_dtypes, refusal
    from .patterns import matching
    from .pretrained import check_pretrained
    from .provenance import innermost_line, module_path, source_line
    from .search import LeaveOut
    from .sizes import batches, bound_notes, bounded, bounds, size_combinations
    from .snippets import (
        KOTLIN_DOLLAR,
        Signature,
        Value,
        commented,
        constant,
        identifier,
        quoted,
        signature,
        small_size,
    )
    from .wording import left_as_they_are, listed

_HOMES = {
    "KOTLIN_DOLLAR": ".snippets:KOTLIN_DOLLAR",
    "OPEN_END": "..gate.cases:OPEN_END",
    "Case": "..gate.cases:Case",
    "DescribedSource": "..model.inputs:DescribedSource",
    "Golden": "..gate.golden:Golden",
    "GoldenCase": "..gate.golden:GoldenCase",
    "LeaveOut": ".search:LeaveOut",
    "ModuleState": "..model.reference:ModuleState",
    "Signature": ".snippets:Signature",
    "Unsupported": ".operators:Unsupported",
    "Value": ".snippets:Value",
    "Verdict": ".candidates:Verdict",
    "batches": ".sizes:batches",
    "bound_notes": ".sizes:bound_notes",
    "bounded": ".sizes:bounded",
    "bounds": ".sizes:bounds",
    "call_arguments": "..model.reference:arguments",
    "cases_to_time": ".latency:cases_to_time",
    "check_dtypes": ".operators:check_dtypes",
    "check_pretrained": ".pretrained:check_pretrained",
    "check_readable": ".files:check_readable",
    "check_path": "..regular:check_path",
    "check_regular": "..regular:check_regular",
    "compare": "..gate.compare:compare",
    "compare_all": "..gate.compare:compare_all",
    "compute_golden": "..gate.golden:compute",
    "commented": ".snippets:commented",
    "constant": ".snippets:constant",
    "copy_as": ".files:copy_as",
    "count": "..contract.progress:count",
    "declared": ".files:declared",
    "describe_source": "..model.inputs:describe",
    "dynamic_shapes": "..model.capture:dynamic_shapes",
    "eval_mode": "..model.reference:eval_mode",
    "failed": ".failures:failed",
    "generate_at": "..gate.cases:generate_at",
    "generate_cases": "..gate.cases:generate",
    "identifier": ".snippets:identifier",
    "importable": "..plugins.installed:importable",
    "innermost_line": ".provenance:innermost_line",
    "latency_ratios": ".latency:latency_ratios",
    "left_as_they_are": ".wording:left_as_they_are",
    "listed": ".wording:listed",
    "load_golden": "..gate.golden:load",
    "load_program": "..model.pt2:load_program",
    "low_sizes": "..gate.cases:low_sizes",
    "matching": ".patterns:matching",
    "middle_sizes": "..gate.cases:middle_sizes",
    "module_path": ".provenance:module_path",
    "module_reference": "..model.reference:reference",
    "name_outputs": "..model.reference:name_outputs",
    "open_calibration": "..data.samples:open_samples",
    "open_regular": "..regular:open_regular",
    "output_specs": "..gate.golden:output_specs",
    "parse_json": "..jsontext:parse_json",
    "pixels": "..data.images:pixels",
    "quiet": "..quiet:quiet",
    "quoted": ".snippets:quoted",
    "read_json": "..jsontext:read_json",
    "reading": ".files:reading",
    "recaptured": "..model.narrow:recaptured",
    "refusal": ".operators:refusal",
    "scratch": "..store.scratch:scratch",
    "signature": ".snippets:signature",
    "size_combinations": ".sizes:size_combinations",
    "size_in_file": ".files:size_in_file",
    "small_size": ".snippets:small_size",
    "source_line": ".provenance:source_line",
    "split_data": "..accuracy.judge:split_data",
    "stage": "..contract.progress:stage",
    "steps": "..contract.progress:steps",
    "to_numpy": "..model.reference:to_numpy",
    "to_torch": "..model.reference:to_torch",
    "trace_inputs": "..model.capture:trace_inputs",
    "translated": ".failures:translated",
    "user_frame": "..usercode:user_frame",
    "verdict": ".candidates:verdict",
    "without": ".imports:without",
}

__getattr__, __dir__ = face(__name__, _HOMES)
