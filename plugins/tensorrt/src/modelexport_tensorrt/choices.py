"""Which options of `mx export -t tensorrt` go together: what is wrong with them alone is said before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelexport.contract import check_file
from modelexport.errors import OptionError

from . import flavours, profiles

if TYPE_CHECKING:
    from . import ExportOptions
    from .flavours import Flavour


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
    flavours.check_names(options.sm)
    flavours.check_types(options.sm, {flavours.PRECISIONS.get(options.precision, "float32")})
    if options.flavour != flavours.AUTO:
        check_flavour(options, flavours.BY_NAME[options.flavour])


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
