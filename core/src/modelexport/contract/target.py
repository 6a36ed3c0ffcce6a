"""What a plugin says about its target. In a module of its own, so that describing stays cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .options import NoOptions


@dataclass(frozen=True)
class NoDetails:
    """A target that says nothing of its own in the manifest."""


#: the formats of sources that are no files of a target: a live `torch.nn.Module`, and a `torch.export` program
MODULE, CAPTURED = "module", "captured"


@dataclass(frozen=True)
class Verb:
    """What one verb of a target takes.

    `options`     a frozen dataclass, a field for each option; see `modelexport.contract.option`
    `needs`       the importable modules that the verb takes
    `install`     the command that installs them
    `precisions`  the precisions of `mx export --precision` that this verb is a step to, each with the options that
                  the verb then has
    """

    options: type = NoOptions
    needs: tuple[str, ...] = ()
    install: str = ""
    precisions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What a plugin says about itself, as plain data: `mx targets` and the planner read nothing else.

    `name`       the target's name, equal to its entry point's
    `summary`    one line for `mx targets`
    `consumes`   the formats `mx_export` accepts, best first: "module", "captured", or another target's name
    `verbs`      what each verb takes, for those that take anything
    `mutates`    the export hook changes the live module or program it is given (core then hands it a copy)
    `snippets`   languages that `mx_snippet` writes code in, such as "cpp" or "swift"
    `details`    a frozen dataclass of what `Build.details` may hold, a field for each key: a manifest that a
                 stranger wrote is checked by its type hints before a hook sees it. Hints are plain types,
                 `Literal`, unions, tuples, mappings, dataclasses, and `Annotated` with a `Check` of the contract
    `compiles`   the precisions that the target takes from the format it consumes, where that format's own way to
                 them would not do: precision → verb of that format → its options. What the compiling export itself
                 gets for the precision stands in `verbs`. A precision that is in neither is made in the consumed
                 format's own way
    """

    name: str
    summary: str
    consumes: tuple[str, ...] = ("captured",)
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    mutates: bool = False
    snippets: tuple[str, ...] = ()
    compiles: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    details: type = NoDetails

    def verb(self, name: str) -> Verb:
        """What the verb takes; nothing where the target says nothing of it."""
        return self.verbs.get(name, Verb())

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that it has ways of its own to, in the order in which it names them."""
        named = [precision for verb in self.verbs.values() for precision in verb.precisions]
        return tuple(dict.fromkeys([*named, *self.compiles]))

    def verbs_of(self, precision: str) -> dict[str, Mapping[str, str]]:
        """The verbs that are steps to `precision`, each with its options."""
        return {
            name: verb.precisions[precision] for name, verb in self.verbs.items() if precision in verb.precisions
        }
