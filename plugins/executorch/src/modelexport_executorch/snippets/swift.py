"""A Swift program for Apple's systems that runs a .pte."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from modelexport.contract import Artifact
from modelexport.toolkit import Value, quoted

from .interface import calls_quantized_kernels, interface

#: dtype → the Swift type that holds a value
TYPES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Float16",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "Int64",
    "uint8": "UInt8",
    "bool": "Bool",
}

_PROGRAM = Template("""\
// Runs $entry with ExecuTorch on iOS and macOS. Add the Swift package https://github.com/pytorch/executorch,
// branch swiftpm-VERSION, and link executorch, $libraries with -all_load: they register themselves.
import ExecuTorch
import Foundation

$constants
func run(path: String) throws {
    let module = Module(filePath: path)

$inputs
    let results = try module.forward([$values])
$outputs}

try run(path: Bundle.main.path(forResource: $stem, ofType: "pte")!)
""")

_INPUT = Template("""\
    // your data for $value
    let $name = [$kind](repeating: $zero, count: $count)
    let ${name}Tensor = Tensor<$kind>($name, shape: [$shape])
""")

_OUTPUT = Template("""\
    let $name: Tensor<$kind> = results[$index].tensor()!
    print($label, $name.shape, $name.scalars().prefix(5))
""")


def write(artifact: Artifact) -> dict[str, str]:
    """main.swift. Raises ConversionError for a dtype that the API has no tensors of."""
    sides = interface(artifact, "Swift", TYPES)
    program = _PROGRAM.substitute(
        entry=artifact.entry,
        libraries=", ".join(_libraries(artifact)),
        constants=sides.constants("let $name = $size  // $range"),
        inputs="\n".join(map(_input, sides.inputs)),
        values=", ".join(f"{value.identifier}Tensor" for value in sides.inputs),
        outputs="".join(_output(value, index) for index, value in enumerate(sides.outputs)),
        stem=quoted(artifact.entry.removesuffix(".pte")),
    )
    return {"main.swift": program}


def _input(value: Value) -> str:
    return _INPUT.substitute(
        value=value,
        name=value.identifier,
        kind=TYPES[value.dtype],
        zero="false" if value.dtype == "bool" else "0",
        count=value.count,
        shape=value.shape,
    )


def _output(value: Value, index: int) -> str:
    return _OUTPUT.substitute(
        name=value.identifier, kind=TYPES[value.dtype], index=index, label=quoted(value.name)
    )


def _libraries(artifact: Artifact) -> Iterator[str]:
    yield "kernels_optimized"
    if calls_quantized_kernels(artifact):
        yield "kernels_quantized"
    for name in artifact.details.get("backend", ()):
        if name in ("xnnpack", "coreml"):
            yield f"backend_{name}"
