"""Swift on iOS."""

from __future__ import annotations

from pathlib import PurePath
from string import Template

from modelexport.toolkit import quoted

from .interface import Interface, Port, block, lines

_TYPES = {"float32": "Float32", "float64": "Double", "float16": "Float16", "bool": "Bool"}

_PROGRAM = Template("""\
// Runs $entry on iOS. In the Podfile: pod 'TensorFlowLiteSwift'
// In an app: Bundle.main.path(forResource: $stem, ofType: "tflite")!
import Foundation
import TensorFlowLite

$constants
func bytes<T>(_ values: [T]) -> Data {
    return values.withUnsafeBytes { Data($$0) }
}

func show<T>(_ name: String, _ tensor: Tensor, _ type: T.Type) {
    let values = tensor.data.withUnsafeBytes { Array($$0.bindMemory(to: type)) }
    print(name, tensor.shape.dimensions, values.prefix(5))
}

var options = Interpreter.Options()
options.threadCount = 2
let path = CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : $path
let interpreter = try Interpreter(modelPath: path, options: options)
let runner = try interpreter.signatureRunner(with: $key)
$resize
try runner.allocateTensors()
try runner.invoke(with: [
$fill
])
$show
""")


def program(interface: Interface) -> str:
    """A program with flat arrays as inputs, and inputs of dynamic sizes resized beforehand."""
    return _PROGRAM.substitute(
        entry=interface.entry,
        path=quoted(interface.entry),
        stem=quoted(PurePath(interface.entry).stem),
        key=quoted(interface.key),
        constants=block(0, [f"let {c.name} = {c.size}{c.comment}" for c in interface.constants]),
        resize=block(0, [_resize(port) for port in interface.inputs if not port.is_fixed]),
        fill=lines(4, [_fill(port) for port in interface.inputs]),
        show=lines(0, [_show(port) for port in interface.outputs]),
    )


def _type(port: Port) -> str:
    return _TYPES.get(port.value.dtype) or port.value.dtype.capitalize().replace("Uint", "UInt")


def _resize(port: Port) -> str:
    return f"try runner.resizeInput(named: {port.name}, to: Tensor.Shape([{port.value.shape}]))"


def _fill(port: Port) -> str:
    zero = "false" if port.value.dtype == "bool" else "0"
    values = f"bytes([{_type(port)}](repeating: {zero}, count: {port.value.count}))"
    return f"{port.name}: {values},{port.comment}: your data"


def _show(port: Port) -> str:
    output = f"try runner.output(named: {port.name})"
    return f"show({port.name}, {output}, {_type(port)}.self){port.comment}"
