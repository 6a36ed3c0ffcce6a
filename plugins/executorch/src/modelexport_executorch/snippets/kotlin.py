"""A Kotlin function for Android that runs a .pte."""

from __future__ import annotations

from string import Template

from modelexport.contract import Artifact
from modelexport.toolkit import KOTLIN_DOLLAR, Value, quoted

from .interface import interface
from .jvm import TYPES, VERSION

_PROGRAM = Template("""\
// Runs $entry with ExecuTorch on Android.
// In build.gradle.kts: implementation("org.pytorch:executorch-android:$version")
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

$constants
/** Runs the model in the file at `path`: copy it from the app's assets to its files first. */
fun run(path: String) {
    val module = Module.load(path)

$inputs
    val outputs = module.forward($values)
$outputs}
""")

_INPUT = Template("""\
    val $name = ${kind}Array($count)  // your data for $value
    val ${name}Tensor = Tensor.$make($name, longArrayOf($sizes))
""")

_OUTPUT = Template("""\
    val $name = outputs[$index].toTensor()
    println($label + $name.shape().contentToString())
    println($name.$read.take(5))
""")


def write(artifact: Artifact) -> dict[str, str]:
    """Model.kt. Raises ConversionError for a dtype that the API has no tensors of."""
    sides = interface(artifact, "Kotlin", TYPES)
    program = _PROGRAM.substitute(
        entry=artifact.entry,
        version=VERSION,
        constants=sides.constants("const val $name = $size  // $range"),
        inputs="\n".join(map(_input, sides.inputs)),
        values=", ".join(f"EValue.from({value.identifier}Tensor)" for value in sides.inputs),
        outputs="".join(_output(value, index) for index, value in enumerate(sides.outputs)),
    )
    return {"Model.kt": program}


def _input(value: Value) -> str:
    kind, make, _ = TYPES[value.dtype]
    sizes = ", ".join(f"{size}.toLong()" if isinstance(size, str) else f"{size}L" for size in value.sizes)
    return _INPUT.substitute(
        kind=kind.capitalize(), name=value.identifier, count=value.count, value=value, make=make, sizes=sizes
    )


def _output(value: Value, index: int) -> str:
    getter = TYPES[value.dtype][2].removeprefix("get")
    return _OUTPUT.substitute(
        name=value.identifier,
        index=index,
        label=quoted(f"{value.name} ", KOTLIN_DOLLAR),
        read=getter[0].lower() + getter[1:],
    )
