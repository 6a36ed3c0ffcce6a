"""Java on Android."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from modelexport.toolkit import quoted

from . import jvm
from .interface import Interface, Port, block, lines

#: a single value of a type, where it is not 0
_ZEROS = {"float": "0f", "boolean": "false"}

_PROGRAM = Template("""\
// Runs $entry on Android. In build.gradle: implementation("$dependency")
// Put the file into the assets, or anywhere else on the device.
import java.io.File;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import org.tensorflow.lite.Interpreter;

public class Main {
$constants
    public static void main(String[] arguments) {
        File file = new File(arguments.length > 0 ? arguments[0] : $path);
        Interpreter.Options options = new Interpreter.Options().setNumThreads(2);
        try (Interpreter interpreter = new Interpreter(file, options)) {
            Map<String, Object> inputs = new HashMap<>();
$fill
            interpreter.runSignature(inputs, new HashMap<>(), $key);
$show
        }
    }
}
""")


def program(interface: Interface) -> str:
    """A program with nested arrays as inputs. Raises OptionError for a dtype that Java has no type for."""
    key = quoted(interface.key)
    return _PROGRAM.substitute(
        dependency=jvm.DEPENDENCY,
        entry=interface.entry,
        path=quoted(interface.entry),
        key=key,
        constants=block(4, [f"static final int {c.name} = {c.size};{c.comment}" for c in interface.constants]),
        fill=lines(12, [_fill(port) for port in interface.inputs]),
        show=lines(12, [line for port in interface.outputs for line in _show(port, key)]),
    )


def _fill(port: Port) -> str:
    kind, sizes = jvm.type_of(port), "".join(f"[{size}]" for size in port.value.sizes)
    value = f"new {kind}{sizes}" if sizes else _ZEROS.get(kind, "0")
    return f"inputs.put({port.name}, {value});{port.comment}: your data"


def _show(port: Port, key: str) -> Iterator[str]:
    yield f'System.out.println({port.name} + " " + interpreter'
    yield f"    .getOutputTensorFromSignature({port.name}, {key})"
    yield f"    {jvm.read(port)}.get(0));{port.comment}"
