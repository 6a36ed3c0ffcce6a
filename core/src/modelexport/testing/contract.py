"""`TargetContract`, the tests, and `Quirks`, the only way round one of them."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from .. import api
from ..contract import hooks
from ..contract.artifacts import Artifact
from ..contract.options import describe_options
from ..contract.sessions import Session
from ..contract.sources import LoadOptions
from ..errors import CannotRunHere, InputError, OptionError, OutputError, TargetError
from ..gate import cases, golden, worker
from ..plugins import calls, entries, manager
from ..store import manifest, schema
from ..work import convert, prepare
from ..work.requests import Verification
from .specimens import SPECIMENS

if TYPE_CHECKING:
    from ..plugins.manager import Plugin

#: packages that describing a target must not import, besides what the target itself says it needs
HEAVY = ("torch", "numpy", "tensorflow", "transformers")


#: the reasons for which a test of the contract may be skipped though every backend is installed
NO_VERB = "the target does not {verb}"
AHEAD_OF_TIME = "built ahead of time, and not run here: the contract class says so"


@dataclass(frozen=True)
class Quirks:
    """What a target can't do, each with the reason, which must not be the plugin's own fault.

    `unsupported`: specimens (see `SPECIMENS`) that it can't export. `tests`: other tests, by name without
    `test_`. `tolerance`: a wider parity budget (`atol`, `rtol`, `noise`, `cosine`) for a runtime that computes
    less exactly, with `tolerance_reason`.
    """

    unsupported: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=dict)
    tolerance_reason: str = ""

    def __post_init__(self) -> None:
        strangers = sorted(set(self.unsupported) - set(SPECIMENS))
        if strangers:
            raise ValueError(f"no specimen is called {strangers[0]!r}; one of {', '.join(SPECIMENS)}")
        reasons = [*self.unsupported.values(), *self.tests.values()]
        if self.tolerance:
            reasons.append(self.tolerance_reason)
        if not all(reason.strip() for reason in reasons):
            raise ValueError("every quirk needs its reason")


@cache
def prepared(name: str) -> prepare.Prepared:
    """A specimen's source, reference and capture: made once for all targets tested in this process."""
    from ..model.resolve import resolve

    return prepare.prepare(resolve(SPECIMENS[name].source(), LoadOptions()))


class TargetContract:
    """Subclass it, set `target`, and pytest does the rest."""

    target: ClassVar[str]
    quirks: ClassVar[Quirks] = Quirks()
    #: for a target that builds what the machine of the tests need not be able to run: what it takes to run it
    ahead_of_time: ClassVar[str] = ""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        changed = [
            name
            for name in vars(cls)
            if name in vars(TargetContract) and name not in ("target", "quirks", "ahead_of_time")
        ]
        changed = [name for name in changed if not name.startswith("__")]
        if changed:
            raise TypeError(
                f"{cls.__name__} overrides {changed[0]} of the contract; declare a quirk with its reason"
            )

    # ----------------------------------------------------------------------------------- fixtures

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a specimen; quirks become strict expected failures."""
        if "specimen" in metafunc.fixturenames:
            marks = self.quirks.unsupported
            values = [pytest.param(name, marks=_expected(marks.get(name))) for name in SPECIMENS]
            metafunc.parametrize("specimen", values)

    @pytest.fixture(autouse=True)
    def _quirk(self, request: pytest.FixtureRequest) -> None:
        reason = self.quirks.tests.get(request.function.__name__.removeprefix("test_"))
        for mark in _expected(reason):
            request.applymarker(mark)

    @pytest.fixture(scope="class")
    @classmethod
    def plugin(cls) -> Plugin:
        """The target, able to export and run here; else a skip, or a failure where MX_REQUIRE names it."""
        try:
            for verb in ("export", "run"):
                manager.require(cls.target, verb)
        except TargetError as error:
            required = os.environ.get("MX_REQUIRE", "").split(",")
            if cls.target in required or "all" in required:
                pytest.fail(f"{error.message}: {error.hint}")
            if cls.target in entries.find(entries.TARGETS) and "broken" in error.message:
                pytest.fail(error.message)
            pytest.skip(f"{error.message}: {error.hint}")
        return manager.target(cls.target)

    @pytest.fixture(scope="session")
    @classmethod
    def gate(cls) -> Iterator[Callable[[], worker.Child]]:
        """A process for the verifications of all contracts; another one after a crash."""
        with ExitStack() as stack:
            children: list[worker.Child] = []

            def alive() -> worker.Child:
                if not children or not children[-1].alive:
                    children.append(stack.enter_context(worker.start("verifying a specimen")))
                return children[-1]

            yield alive

    @pytest.fixture(scope="class")
    @classmethod
    def made(
        cls, plugin: Plugin, gate: Callable[[], worker.Child], tmp_path_factory: pytest.TempPathFactory
    ) -> Callable[[str], Artifact]:
        """Export a specimen, once a class; raises what the export raises. Only its capture outlives the class."""
        folder = tmp_path_factory.mktemp(cls.target)
        done: dict[str, Artifact] = {}

        def make(name: str) -> Artifact:
            if name not in done:
                verification = Verification(tolerance=cls.quirks.tolerance, child=gate())
                place = folder / f"{name}.{cls.target}"
                done[name] = convert.make(prepared(name), cls.target, place, verification)
            return done[name]

        return make

    # ----------------------------------------------------------------------------------- describing

    def test_entry_point_has_the_targets_name(self, plugin: Plugin) -> None:
        assert plugin.entry.name == plugin.target.name == self.target
        assert plugin.target.summary.strip()
        assert "export" in plugin.verbs

    def test_describing_imports_no_backend(self, plugin: Plugin) -> None:
        needed = {module.partition(".")[0] for verb in plugin.target.verbs.values() for module in verb.needs}
        script = (
            "import sys; from modelexport.plugins import manager; manager.target(sys.argv[1]);"
            "print(*[name for name in sys.argv[2:] if name in sys.modules])"
        )
        command = [sys.executable, "-c", script, self.target, *sorted(needed | set(HEAVY))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    def test_hook_parameters_have_no_defaults(self, plugin: Plugin) -> None:
        for name in (name for name in dir(hooks) if name.startswith("mx_")):
            for implementation in getattr(plugin.hook, name).get_hookimpls():
                parameters = inspect.signature(implementation.function).parameters.values()
                assert [p.name for p in parameters if p.default is not p.empty] == [], name

    def test_options_say_what_they_are_for(self, plugin: Plugin) -> None:
        for verb in plugin.target.verbs.values():
            assert [option.key for option in describe_options(verb.options) if not option.help] == []

    # ----------------------------------------------------------------------------------- exporting

    def test_computes_the_same(
        self, specimen: str, made: Callable[[str], Artifact], record_property: Callable[[str, object], None]
    ) -> None:
        """The gate's verdict, on every specimen.

        "structure" passes, as that, for a target that says so of itself.
        """
        artifact = made(specimen)
        record_property("verified", artifact.parity.verified)
        self._check_verdict(artifact)
        assert artifact.parity.cases

    def test_leaves_the_model_untouched(self, plugin: Plugin, tmp_path: Path) -> None:
        source = SPECIMENS["conv_bn"].source()
        module = source.module.train()
        module.conv.eval()
        next(module.parameters()).requires_grad_(False)
        before = _snapshot(module)
        api.export(source, [self.target], tmp_path, verify=False)
        assert _snapshot(module) == before

    def test_keeps_names_and_dims(self, made: Callable[[str], Artifact]) -> None:
        artifact = made("dynamic_batch")
        assert [spec.name for spec in artifact.inputs] == ["input"]
        with self._session(artifact) as session:
            (name,) = (spec.name for spec in artifact.outputs)
            for size in (1, 5, 8):
                outputs = session(cases.generate_at(artifact.inputs, {"batch": size}))
                assert outputs[name].shape == (size, 2)

    def test_manifest_round_trips(self, made: Callable[[str], Artifact]) -> None:
        artifact = made("two_in_two_out")
        assert manifest.read(artifact.path) == artifact
        assert schema.from_json(schema.to_json(artifact), artifact.path) == artifact
        assert [step.target for step in artifact.lineage][-1] == self.target
        assert golden.load(artifact.golden).cases

    def test_snippets_know_the_model(self, plugin: Plugin, made: Callable[[str], Artifact]) -> None:
        artifact = made("two_in_two_out")
        for language in plugin.target.snippets:
            files = calls.call(plugin, "snippet", artifact=artifact, language=language)
            text = "\n".join(files.values())
            known = [spec.name for spec in (*artifact.inputs, *artifact.outputs)] + [Path(artifact.entry).stem]
            assert [name for name in known if name not in text] == [], language

    def test_refuses_unknown_options(self, plugin: Plugin) -> None:
        with pytest.raises(OptionError):
            calls.options_for(self.target, "export", {"no-such-option": "1"})

    def test_refuses_options_of_the_wrong_type(self, plugin: Plugin) -> None:
        for name, verb in plugin.target.verbs.items():
            for option in describe_options(verb.options):
                if option.type in ("int", "float", "bool"):
                    with pytest.raises(OptionError):
                        calls.options_for(self.target, name, {option.key: "neither number nor truth"})

    def test_refuses_an_unwritable_place(self, plugin: Plugin, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OutputError):
            api.export(SPECIMENS["scalar_output"].source(), [self.target], tmp_path / "file" / "build")

    def test_a_killed_export_leaves_nothing(self, plugin: Plugin, tmp_path: Path) -> None:
        """Killed while it writes: no artifact; and the next run succeeds and clears what was left."""
        script = (
            "import sys; from modelexport import api; from modelexport.testing import SPECIMENS;"
            "api.export(SPECIMENS['conv_bn'].source(), [sys.argv[1]], sys.argv[2], verify=False)"
        )
        process = subprocess.Popen([sys.executable, "-c", script, self.target, str(tmp_path)])
        deadline = time.monotonic() + 300
        while process.poll() is None and not any(tmp_path.glob(".*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        final = tmp_path / f"conv_bn.{self.target}"
        assert killed != final.exists(), "a killed export left an artifact, or one that ended left none"
        api.export(SPECIMENS["conv_bn"].source(), [self.target], tmp_path, verify=False)
        manifest.read(final)
        assert [path.name for path in tmp_path.iterdir()] == [final.name]

    # ----------------------------------------------------------------------------------- running

    def test_session_closes(self, made: Callable[[str], Artifact]) -> None:
        artifact = made("two_in_two_out")
        inputs = golden.load(artifact.golden).cases[0].inputs
        with self._session(artifact) as session:
            assert set(session(inputs)) == {"difference", "product"}
        session.close()
        with pytest.raises(InputError):
            session(inputs)

    def test_session_refuses_what_does_not_fit(self, made: Callable[[str], Artifact]) -> None:
        artifact = made("two_in_two_out")
        inputs = golden.load(artifact.golden).cases[0].inputs
        left = inputs["left"]
        wrong = [{"left": left}, {**inputs, "left": left.astype("float64")}, {**inputs, "left": left[0]}]
        with self._session(artifact) as session:
            for refused in [*wrong, {**inputs, "left": left[:, :2]}, {**inputs, "other": left}]:
                with pytest.raises(InputError):
                    session(refused)

    def test_benchmark_is_sane(self, made: Callable[[str], Artifact]) -> None:
        artifact = made("dynamic_batch")
        with self._session(artifact):
            pass
        report = api.benchmark([artifact.path], runs=10, seconds=0.0, threads=1)
        (figures,) = report.figures
        assert 0 < figures.p50_ms <= figures.p90_ms <= figures.p99_ms
        assert figures.runs >= 10
        assert figures.load_ms > 0
        assert figures.file_size == artifact.size > 0
        assert figures.peak_rss > 1 << 20

    # ----------------------------------------------------------------------------------- transforming

    @pytest.mark.parametrize("verb", ["optimize", "quantize"])
    def test_transforms_pass_the_gate(
        self, verb: str, plugin: Plugin, made: Callable[[str], Artifact], tmp_path: Path
    ) -> None:
        """Where the target has the verb: the result passes its gate, and the artifact stays as it was."""
        if verb not in plugin.verbs:
            pytest.skip(NO_VERB.format(verb=verb))
        artifact = made({"optimize": "conv_bn", "quantize": "dynamic_batch"}[verb])  # the latter has large weights
        result = getattr(api, verb)(artifact.path, tmp_path / f"out.{self.target}")
        self._check_verdict(result)
        assert [step.verb for step in result.lineage][-1] == verb
        assert manifest.read(artifact.path) == artifact

    # ----------------------------------------------------------------------------------- in common

    def _check_verdict(self, artifact: Artifact) -> None:
        """Fail unless the artifact is verified, or is of a target that need not run here and can't."""
        allowed = (True, "structure") if self.ahead_of_time else (True,)
        assert artifact.parity.verified in allowed, artifact.parity.reason

    @contextmanager
    def _session(self, artifact: Artifact) -> Iterator[Session]:
        """The artifact, loaded; a skip where this machine can't run it and the target says that it need not."""
        try:
            session = api.run(artifact.path)
        except CannotRunHere:
            if not self.ahead_of_time:
                raise
            pytest.skip(AHEAD_OF_TIME)
        with session:
            yield session


def _expected(reason: str | None) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.xfail(reason=reason, strict=True),) if reason else ()


def _snapshot(module: Any) -> list[Any]:
    """Everything about a module that an exporter might change."""
    from ..model.reference import fingerprint

    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return [
        fingerprint(module),
        [(name, child.training, type(child), sorted(vars(child))) for name, child in module.named_modules()],
        [(name, id(value), value.requires_grad) for name, value in module.named_parameters()],
        [len(getattr(child, hook)) for child in module.modules() for hook in hooks],
    ]
