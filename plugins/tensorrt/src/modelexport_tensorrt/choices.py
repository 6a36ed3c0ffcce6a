"""Which options of `mx export -t tensorrt` go together: what is wrong with them alone is said before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelexport.contract import CAPTURED, MODULE, check_file, check_writable
from modelexport.errors import OptionError

from . import flavours, profiles

if TYPE_CHECKING:
    from modelexport.contract import Source

    from . import ExportOptions
    from .flavours import Flavour


#: what a model in PyTorch does not compute in by itself
INTEGERS = ("int8", "fp8", "int4")


def check(options: ExportOptions) -> None:
    """Raise OptionError for the first thing that is wrong whatever the model and the machine are."""
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise OptionError(f"optimization-level={options.optimization_level} is out of range", "0 to 5")
    if options.bound is not None and options.profile:
        raise OptionError("bound= and profile= contradict each other", "the profiles say where dims end")
    for text in options.profile:
        profiles.check_text(text)
    for path in options.plugins:
        check_file("plugins", path)
    check_writable("timing-cache", options.timing_cache)
    flavours.check_names(options.sm)
    flavours.check_types(options.sm, {flavours.PRECISIONS.get(options.precision, "float32")})
    if options.flavour != flavours.AUTO:
        check_flavour(options, flavours.BY_NAME[options.flavour])


def check_source(options: ExportOptions, source: Source, precision: str | None) -> None:
    """Raise OptionError for profiles that don't fit the inputs, and for a precision that the source lacks."""
    profiles.make(source.specs, options.profile, options.bound)
    if options.precision in INTEGERS and precision is None and source.format in (MODULE, CAPTURED):
        raise OptionError(
            f"precision={options.precision}: {source.ref} is not quantized",
            f"give --precision {options.precision}",
        )


def check_machine(options: ExportOptions, flavour: Flavour) -> None:
    """Raise OptionError for what the flavour lacks, or this machine to build with it."""
    check_flavour(options, flavour)
    flavours.check_here(flavour, options.sm)
    for name, asked in (("refit", options.refit), ("strip", options.strip)):
        if asked and (lacks := flavours.lacking()):
            raise OptionError(
                f"{name}=true takes a GPU while the engine is built, and this machine has {lacks}",
                "leave it out, or build on a machine with a GPU",
            )


def check_flavour(options: ExportOptions, flavour: Flavour) -> None:
    """Raise OptionError for GPUs that the flavour builds for nowhere, and for options that it lacks."""
    if not flavour.ahead:
        return
    flavours.check_ahead(flavour, options.sm)
    lacking = {
        "timing-cache": (options.timing_cache is not None, "`mx run -k runtime-cache=` keeps what a GPU compiled"),
        "dla": (options.dla is not None, "TensorRT on a Jetson builds for its accelerator"),
        "version-compatible": (options.version_compatible, "build again with the other version: it takes seconds"),
    }
    for name, (asked, hint) in lacking.items():
        if asked:
            raise OptionError(f"{flavour.name} has no {name}", f"leave it out; {hint}")
