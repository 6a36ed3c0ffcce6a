"""A Java class for Android that runs a .pte."""

from __future__ import annotations

from string import Template

from modelexport.contract import Artifact
from modelexport.toolkit import Value, quoted

from .interface import interface
from .jvm import TYPES, VERSION

_PROGRAM = Template("""\
// Runs $entry with ExecuTorch on Android.
// In build.gradle: implementation "org.pytorch:executorch-android:$version"
import java.util.Arrays;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

public final class Model {
$constants
    /** Runs the model in the file at `path`: copy it from the app's assets to its files first. */
    public static void run(String path) {
        Module module = Module.load(path);

$inputs
        EValue[] outputs = module.forward($values);
$outputs    }
}
""")

_INPUT = Template("""\
        $kind[] $name = new $kind[$count];  // your data for $value
        Tensor ${name}Tensor = Tensor.$make($name, new long[] {$shape});
""")

_OUTPUT = Template("""\
        $kind[] $name = outputs[$index].toTensor().$read();
        System.out.println($label + " " + Arrays.toString(outputs[$index].toTensor().shape()) + " " \
+ Arrays.toString(Arrays.copyOf($name, Math.min(5, $name.length))));
""")


def write(artifact: Artifact) -> dict[str, str]:
    """Model.java. Raises ConversionError for a dtype that the API has no tensors of."""
    sides = interface(artifact, "Java", TYPES)
    program = _PROGRAM.substitute(
        entry=artifact.entry,
        version=VERSION,
        constants=sides.constants("    static final int $name = $size;  // $range"),
        inputs="\n".join(map(_input, sides.inputs)),
        values=", ".join(f"EValue.from({value.identifier}Tensor)" for value in sides.inputs),
        outputs="".join(_output(value, index) for index, value in enumerate(sides.outputs)),
    )
    return {"Model.java": program}


def _input(value: Value) -> str:
    kind, make, _ = TYPES[value.dtype]
    return _INPUT.substitute(
        kind=kind, name=value.identifier, count=value.count, value=value, make=make, shape=value.shape
    )


def _output(value: Value, index: int) -> str:
    kind, _, read = TYPES[value.dtype]
    return _OUTPUT.substitute(kind=kind, name=value.identifier, index=index, read=read, label=quoted(value.name))
