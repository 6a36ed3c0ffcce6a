"""Kotlin on Android."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from modelexport.toolkit import KOTLIN_DOLLAR, quoted

from . import jvm
from .interface import Interface, Port, block, lines

#: a single value of a type, where it is not 0
_ZEROS = {"Float": "0f", "Boolean": "false", "Long": "0L"}

_PROGRAM = Template("""\
// Runs $entry on Android. In build.gradle: implementation("$dependency")
// Put the file into the assets, or anywhere else on the device.
import java.io.File
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

$constants
fun main(arguments: Array<String>) {
    val file = File(arguments.firstOrNull() ?: $path)
    Interpreter(file, Interpreter.Options().setNumThreads(2)).use { interpreter ->
        val inputs = mapOf<String, Any>(
$fill
        )
        interpreter.runSignature(inputs, mapOf<String, Any>(), $key)
$show
    }
}
""")


def program(interface: Interface) -> str:
    """A program with nested arrays as inputs. Raises OptionError for a dtype that Kotlin has no type for."""
    key = _quoted(interface.key)
    fill = [f"{_quoted(p.value.name)} to {_array(p)},{p.comment}: your data" for p in interface.inputs]
    show = [line for number, port in enumerate(interface.outputs) for line in _show(number, port, key)]
    return _PROGRAM.substitute(
        dependency=jvm.DEPENDENCY,
        entry=interface.entry,
        path=_quoted(interface.entry),
        key=key,
        constants=block(0, [f"const val {c.name} = {c.size}{c.comment}" for c in interface.constants]),
        fill=lines(12, fill),
        show=lines(8, show),
    )


def _array(port: Port) -> str:
    kind = jvm.type_of(port).capitalize()
    if not port.value.sizes:
        return _ZEROS.get(kind, "0")
    *outer, last = port.value.sizes
    text = f"{kind}Array({last})"
    for size in reversed(outer):
        text = f"Array({size}) {{ {text} }}"
    return text


def _show(number: int, port: Port, key: str) -> Iterator[str]:
    name = _quoted(port.value.name)
    yield f"val output{number} = interpreter.getOutputTensorFromSignature({name}, {key})"
    yield f"val values{number} = output{number}{jvm.read(port)}{port.comment}"
    yield f'println({name} + " ${{output{number}.shape().toList()}} ${{values{number}.get(0)}}")'


def _quoted(text: str) -> str:
    return quoted(text, KOTLIN_DOLLAR)
