"""What can be wrong with options alone: it is said before the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelexport.contract import check_least
from modelexport.errors import OptionError
from modelexport.toolkit import check_path

from . import formats

if TYPE_CHECKING:
    from . import ExportOptions, QuantizeOptions


def check_export(options: ExportOptions) -> None:
    """Raise OptionError for what no model could make right."""
    limits = {"max-batch-size": options.max_batch_size, "max-seq-len": options.max_seq_len}
    for key, value in {"tp": options.tp, "samples": options.samples, **limits}.items():
        check_least(key, value, 1)
    check_quantization(options)
    _check_texts(options.quantization, options.calibration, options.column)
    if options.engine:
        from . import engine

        engine.builder()


def check_quantization(options: ExportOptions | QuantizeOptions) -> None:
    """Raise OptionError for numbers that no quantization can be done with."""
    check_least("length", options.length, 2)
    check_least("group-size", options.group_size, 1)
    ratio = options.max_perplexity_ratio
    if ratio is not None and not ratio > 0:
        raise OptionError(f"max-perplexity-ratio={ratio:g} makes no sense", "1.02 lets the perplexity grow by 2 %")


def _check_texts(quantization: str, calibration: str | None, column: str | None) -> None:
    """A quantization and the texts for it go together; a path must be there, code is imported later."""
    from pathlib import Path

    if calibration is None:
        if quantization != "none":
            raise OptionError(formats.NO_TEXTS.format(quantization), f"-k calibration=texts.txt: {formats.SOME}")
        if column is not None:
            raise OptionError(f"column={column} goes with calibration=, which is not given", "leave it out")
    elif quantization == "none":
        raise OptionError(
            f"calibration={calibration} is for a quantization, and none is asked for",
            "add -k quantization=fp8, or another format; with --precision, give --calibration instead",
        )
    elif ":" not in calibration:
        check_path(calibration, OptionError)
        if Path(calibration).exists():
            return
        raise OptionError(
            f"calibration={calibration}: there is no such path",
            "give a .txt with one text a line, a .jsonl, a .csv, or a function as file.py:function",
        )
