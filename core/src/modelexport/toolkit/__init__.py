"""What plugins share, and the few names of the rooms below that they may use.

Importing this package is cheap: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import face

__all__ = [
    "OPEN_END",
    "Case",
    "DescribedSource",
    "Golden",
    "GoldenCase",
    "ModuleState",
    "call_arguments",
    "cases_to_time",
    "check_program",
    "compare",
    "compare_all",
    "compute_golden",
    "describe_source",
    "dynamic_shapes",
    "eval_mode",
    "generate_at",
    "generate_cases",
    "importable",
    "innermost_line",
    "latency_ratios",
    "load_golden",
    "low_sizes",
    "middle_sizes",
    "module_path",
    "module_reference",
    "name_outputs",
    "open_calibration",
    "output_specs",
    "pixels",
    "quiet",
    "recaptured",
    "source_line",
    "split_data",
    "to_numpy",
    "to_torch",
    "trace_inputs",
    "user_frame",
]

if TYPE_CHECKING:
    from ..accuracy.judge import split_data
    from ..data.images import pixels
    from ..data.samples import open_samples as open_calibration
    from ..gate.cases import OPEN_END, Case, generate_at, low_sizes, middle_sizes
    from ..gate.cases import generate as generate_cases
    from ..gate.compare import compare, compare_all
    from ..gate.golden import Golden, GoldenCase, output_specs
    from ..gate.golden import compute as compute_golden
    from ..gate.golden import load as load_golden
    from ..model.capture import dynamic_shapes, trace_inputs
    from ..model.inputs import DescribedSource
    from ..model.inputs import describe as describe_source
    from ..model.narrow import recaptured
    from ..model.pickles import check_program
    from ..model.reference import ModuleState, eval_mode, name_outputs, to_numpy, to_torch
    from ..model.reference import arguments as call_arguments
    from ..model.reference import reference as module_reference
    from ..plugins.installed import importable
    from ..quiet import quiet
    from ..usercode import user_frame
    from .latency import cases_to_time, latency_ratios
    from .provenance import innermost_line, module_path, source_line

_HOMES = {
    "OPEN_END": "..gate.cases:OPEN_END",
    "Case": "..gate.cases:Case",
    "generate_cases": "..gate.cases:generate",
    "generate_at": "..gate.cases:generate_at",
    "low_sizes": "..gate.cases:low_sizes",
    "middle_sizes": "..gate.cases:middle_sizes",
    "compare": "..gate.compare:compare",
    "compare_all": "..gate.compare:compare_all",
    "Golden": "..gate.golden:Golden",
    "GoldenCase": "..gate.golden:GoldenCase",
    "compute_golden": "..gate.golden:compute",
    "load_golden": "..gate.golden:load",
    "output_specs": "..gate.golden:output_specs",
    "dynamic_shapes": "..model.capture:dynamic_shapes",
    "trace_inputs": "..model.capture:trace_inputs",
    "DescribedSource": "..model.inputs:DescribedSource",
    "describe_source": "..model.inputs:describe",
    "recaptured": "..model.narrow:recaptured",
    "check_program": "..model.pickles:check_program",
    "ModuleState": "..model.reference:ModuleState",
    "call_arguments": "..model.reference:arguments",
    "eval_mode": "..model.reference:eval_mode",
    "name_outputs": "..model.reference:name_outputs",
    "module_reference": "..model.reference:reference",
    "to_numpy": "..model.reference:to_numpy",
    "to_torch": "..model.reference:to_torch",
    "pixels": "..data.images:pixels",
    "open_calibration": "..data.samples:open_samples",
    "split_data": "..accuracy.judge:split_data",
    "importable": "..plugins.installed:importable",
    "quiet": "..quiet:quiet",
    "user_frame": "..usercode:user_frame",
    "cases_to_time": ".latency:cases_to_time",
    "latency_ratios": ".latency:latency_ratios",
    "innermost_line": ".provenance:innermost_line",
    "module_path": ".provenance:module_path",
    "source_line": ".provenance:source_line",
}

__getattr__, __dir__ = face(__name__, _HOMES)
