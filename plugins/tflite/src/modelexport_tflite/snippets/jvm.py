"""What Kotlin and Java share: LiteRT's interpreter for Android, and the types of both."""

from __future__ import annotations

from modelexport.errors import OptionError

from .interface import Port

#: what a project needs
DEPENDENCY = "com.google.ai.edge.litert:litert:1.4.0"

_TYPES = {
    "float32": "float", "int32": "int", "int64": "long", "int16": "short", "int8": "byte", "uint8": "byte",
    "bool": "boolean",
}  # fmt: skip
_BUFFERS = {"float32": ".asFloatBuffer()", "int32": ".asIntBuffer()", "int64": ".asLongBuffer()"}


def type_of(port: Port) -> str:
    """The type of its elements. Raises OptionError for a dtype that Java has no type for."""
    if port.value.dtype not in _TYPES:
        raise OptionError(
            f"{port.value.name!r} is {port.value.dtype}, which Java has no type for", "write it in C++ or Swift"
        )
    return _TYPES[port.value.dtype]


def read(port: Port) -> str:
    """What makes a buffer of its elements of an output tensor."""
    type_of(port)
    return f".asReadOnlyBuffer().order(ByteOrder.nativeOrder()){_BUFFERS.get(port.value.dtype, '')}"
