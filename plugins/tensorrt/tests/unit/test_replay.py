"""`mx quantize` builds as the artifact was built, but takes no files from a manifest."""

from dataclasses import replace
from pathlib import Path

import pytest
from modelexport.contract import Artifact, Step
from modelexport.errors import ArtifactError
from modelexport_tensorrt import export

OPTIONS = {"sm": ["sm89"], "optimization-level": 2}


def artifact(**options):
    step = Step("export", "tensorrt", {**OPTIONS, **options})
    return Artifact(Path("a.tensorrt"), "tensorrt", "model.engine", (), (), lineage=(step,))


@pytest.mark.parametrize("key", ["timing-cache", "timing_cache", "plugins"])
def test_files_that_a_manifest_names_are_left_out(key, tmp_path):
    file = tmp_path / "precious"
    file.write_text("mine")
    value = [str(file)] if key == "plugins" else str(file)
    chosen = export.options_of(artifact(**{key: value}))
    assert (chosen.timing_cache, chosen.plugins) == (None, ())
    assert (chosen.sm, chosen.optimization_level) == (("sm89",), 2)


@pytest.mark.parametrize(
    "options", [{"nothing": 1}, {"refit": "perhaps"}, {"bound": "9" * 5000}, {"sm": None}, {"profile": 3}]
)
def test_options_that_can_not_be(options):
    with pytest.raises(ArtifactError, match="says that it was exported in a way that can't be"):
        export.options_of(artifact(**options))


def test_an_artifact_without_its_export():
    with pytest.raises(ArtifactError, match="does not say how it was exported"):
        export.options_of(replace(artifact(), lineage=()))
