"""Swift to start from: it loads the package, fills every input and reads every output, as the package has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Template
from typing import Any

from modelexport.contract import Artifact
from modelexport.toolkit import Value, quoted, signature

from . import files

_PROGRAM = Template("""\
// Runs $entry with Core ML, on $system or a system of that year.
// On a Mac: swiftc main.swift && ./main ../../$entry
// In an app, add the package to the project: Xcode compiles it, and the URL of the compiled model is
// Bundle.main.url(forResource: "$stem", withExtension: "mlmodelc")!
import CoreML
import CoreVideo
import Foundation

func load(_ package: URL) throws -> MLModel {
    let compiled = try MLModel.compileModel(at: package)  // a .mlmodelc in a temporary folder: keep it
    let configuration = MLModelConfiguration()
    configuration.computeUnits = $units
    return try MLModel(contentsOf: compiled, configuration: configuration)
}
$functions$sizes
let model = try load(URL(fileURLWithPath: CommandLine.arguments[1]))
let inputs = try MLDictionaryFeatureProvider(dictionary: [
$inputs
])
$predict
$outputs
""")

_ARRAY = """
func array(_ shape: [Int], _ type: MLMultiArrayDataType) throws -> MLFeatureValue {
    let values = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: type)
    for index in 0..<values.count {
        values[index] = 0  // your data, the last axis first
    }
    return MLFeatureValue(multiArray: values)
}
"""

_IMAGE = """
func image(width: Int, height: Int, format: OSType) -> MLFeatureValue {
    var pixels: CVPixelBuffer?  // your image, such as a camera's buffer of this size
    CVPixelBufferCreate(nil, width, height, format, nil, &pixels)
    return MLFeatureValue(pixelBuffer: pixels!)
}
"""

_PRINT = """
func show(_ name: String, _ values: MLMultiArray) {
    let first = (0..<min(5, values.count)).map { values[$0].doubleValue }
    print(name, values.shape, first)
}
"""

#: a line for each dynamic dim
_SIZE = "let $name = $size  // $range"

_TYPES = {"float32": ".float32", "float16": ".float16", "int32": ".int32", "float64": ".double", "int8": ".int8"}
_UNITS = {"cpu-only": ".cpuOnly", "cpu-and-gpu": ".cpuAndGPU", "cpu-and-ne": ".cpuAndNeuralEngine"}
_GRAY = 10


def swift(artifact: Artifact) -> Mapping[str, str]:
    """One file, `main.swift`, with the package's own names and types. Raises RuntimeFailure if it is damaged."""
    described = files.load_spec(artifact.entry_path).description
    features = {feature.name: feature for feature in described.input}
    written = artifact.details.get("names", {})
    values = signature(artifact, artifact.details.get("bounds"))
    sizes = values.constants(_SIZE)
    inputs = [_input(value, features[written.get(value.name, value.name)]) for value in values.inputs]
    outputs = list(_outputs(described))
    used = {"array(": _ARRAY, "image(": _IMAGE, "show(": _PRINT}
    body = "\n".join([*inputs, *outputs])
    state = "model.makeState()" if len(described.state) else ""
    text = _PROGRAM.substitute(
        entry=artifact.entry,
        stem=artifact.entry.removesuffix(".mlpackage"),
        system=artifact.details.get("deployment_target", "iOS15"),
        units=_UNITS.get(artifact.details.get("compute_units", "all"), ".all"),
        functions="".join(function for call, function in used.items() if call in body),
        sizes=f"\n{sizes}" if sizes else "",
        inputs="\n".join(inputs),
        predict=f"let state = {state}\nlet answer = try model.prediction(from: inputs, using: state)"
        if state
        else "let answer = try model.prediction(from: inputs)",
        outputs="\n".join(outputs),
    )
    return {"main.swift": text}


def _input(value: Value, feature: Any) -> str:
    name = quoted(feature.name)
    if files.array_type(feature) == "image":
        kind = feature.type.imageType
        format = "OneComponent8" if kind.colorSpace == _GRAY else "32BGRA"
        size = f"width: {kind.width}, height: {kind.height}"
        return f"    {name}: image({size}, format: kCVPixelFormatType_{format}),"
    return f"    {name}: array([{value.shape}], {_TYPES[files.array_type(feature)]}),"


def _outputs(described: Any) -> Iterator[str]:
    if label := described.predictedFeatureName:
        (feature,) = [feature for feature in described.output if feature.name == label]
        kind = "stringValue" if files.array_type(feature) == "string" else "int64Value"
        yield f"print(answer.featureValue(for: {quoted(label)})!.{kind})"
        probabilities = quoted(described.predictedProbabilitiesName)
        yield f"for (label, probability) in answer.featureValue(for: {probabilities})!.dictionaryValue {{"
        yield "    print(label, probability)"
        yield "}"
        return
    for feature in described.output:
        name = quoted(feature.name)
        yield f"show({name}, answer.featureValue(for: {name})!.multiArrayValue!)"
