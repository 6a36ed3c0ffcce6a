"""Hugging Face models as a source: a folder or a cached id in; inputs, dims, tokenizer and labels found.

locate.py      reference → folder on disk, without importing transformers
source.py      folder → Source: the model, its inputs, and what goes with them
model.py       the model with the task's head and all of its weights, ready for an export
tasks.py       which task an architecture is for, and which outputs a task has
forward.py     the model with a forward of plain tensors; sentence embeddings
processing.py  tokenizer, image preprocessing and labels as plain data
files.py       the JSON files in a model's folder
backend.py     transformers, kept off the terminal
"""

from __future__ import annotations

from modelexport.contract import LoadOptions, Source, hookimpl

from . import locate

__version__ = "0.1.0"


@hookimpl
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    checkpoint = locate.find(ref, options.allow_download)
    if checkpoint is None:
        return None
    from . import source

    return source.load(checkpoint, options)
