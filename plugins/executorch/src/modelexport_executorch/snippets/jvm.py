"""ExecuTorch's Android package, for Java and Kotlin."""

from __future__ import annotations

#: the release of the package that the programs are written for
VERSION = "1.0.0"

#: dtype → the Java type that holds a value, what makes a tensor of an array, and what reads one
TYPES = {
    "float32": ("float", "fromBlob", "getDataAsFloatArray"),
    "float64": ("double", "fromBlob", "getDataAsDoubleArray"),
    "int32": ("int", "fromBlob", "getDataAsIntArray"),
    "int64": ("long", "fromBlob", "getDataAsLongArray"),
    "int8": ("byte", "fromBlob", "getDataAsByteArray"),
    "uint8": ("byte", "fromBlobUnsigned", "getDataAsUnsignedByteArray"),
}
