"""A target declares what its details may hold: no hook is given others, and none may write others."""

import json
import shutil
from dataclasses import replace

import modelexport
import pytest
from modelexport.contract import Build, StandIn
from modelexport.errors import ArtifactError, TargetError
from modelexport.plugins import calls, manager

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def two(artifact, tmp_path):
    """A copy of a good tape."""
    return shutil.copytree(artifact, tmp_path / "two.tape")


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"version": "2"}, "version: expected a whole number"),
        ({"operators": "add"}, "operators: expected a list"),
        ({"session": {"path": "/etc/passwd"}}, "expected one of the keys version, operators, escape"),
    ],
)
def test_details_that_are_not_the_targets_reach_no_hook(details, said, two):
    file = two / "manifest.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"details": details}))
    artifact = modelexport.load(two)
    assert artifact.details == details, "what only reads the manifest needs no plugin"
    with pytest.raises(ArtifactError, match=f"its details aren't those of target 'tape': .*{said}"):
        modelexport.run(two)
    with pytest.raises(ArtifactError, match=said):
        modelexport.quantize(two)
    with pytest.raises(ArtifactError, match=said):
        modelexport.export(two, "packer", two.parent)


def test_a_stand_ins_details_are_checked_by_its_own_target(two):
    artifact = modelexport.load(two)
    other = replace(artifact, stand_in=StandIn("tape", artifact.entry, {"operators": 1}))
    with pytest.raises(ArtifactError, match="target 'tape': operators: expected a list"):
        calls.check_details(other)
    calls.check_details(replace(other, stand_in=StandIn("elsewhere", artifact.entry, {"operators": 1})))


def test_a_target_that_writes_what_it_does_not_declare_is_told(two, tmp_path):
    class Hook:
        def mx_optimize(self, artifact, out, options):
            return Build("x", details={"undeclared": 1})

    plugin = manager.target("tape")._replace(hook=Hook())
    with pytest.raises(TargetError, match=r"target 'tape' wrote details that it does not declare: .*'undeclared'"):
        calls.call(plugin, "optimize", artifact=modelexport.load(two), out=tmp_path, options=None)
