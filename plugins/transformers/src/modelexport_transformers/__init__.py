"""Hugging Face models as a source: a folder or a cached id in; inputs, dims, tokenizer and labels found.

locate.py       reference → folder on disk, without importing transformers
tasks.py        which task an architecture is for, and which outputs a task has
load.py         folder → Source: the model, checked and adapted, and its inputs
forward.py      the model with a forward of plain tensors; sentence embeddings
processing.py   tokenizer, image preprocessing and labels as plain data
"""

from __future__ import annotations

from modelexport.contract import LoadOptions, Source, hookimpl

from . import locate

__version__ = "0.1.0"


@hookimpl
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    found = locate.find(ref, options.allow_download)
    if found is None:
        return None
    from . import load

    return load.load(found, options)
