"""Labels and processing inside the file: a zip archive behind the flatbuffer, as Android's tools put it there.

`unzip -l model.tflite` lists it, and LiteRT does not mind it. The metadata table that the TensorFlow Lite Task
Library reads besides (TFLITE_METADATA) is not written: no installed package has its schema.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append(path: Path, processing: Mapping[str, Any]) -> list[str]:
    """Put `processing` behind the model, and its labels one a line. Returns the names of the files written."""
    if not processing:
        return []
    files = {"processing.json": json.dumps(processing, indent=2, ensure_ascii=False)}
    if labels := processing.get("labels"):
        values = labels.values() if isinstance(labels, Mapping) else labels
        files["labels.txt"] = "".join(f"{label}\n" for label in values)
    _write(path, {name: text.encode() for name, text in files.items()})
    return list(files)


def carry(source: Path, path: Path) -> list[str]:
    """Copy the files behind one model to another: what rewrites a flatbuffer drops them."""
    if not zipfile.is_zipfile(source):
        return []
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    _write(path, files)
    return list(files)


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    with path.open("ab") as file:
        file.write(stream.getvalue())
