"""Snippets: files of an artifact that its copies have too, and that stay in their folder."""

import modelexport
import pytest
from modelexport.errors import OptionError, TargetError
from modelexport.store import manifest

pytestmark = pytest.mark.usefixtures("toys")


def test_snippets_are_part_of_the_artifact_and_of_its_copies(nets, tmp_path, mx):
    done = mx("export", nets("two", "two"), "-t", "tape", "-t", "captured", "-o", tmp_path, "--snippet", "forth")
    assert done.code == 0, done.err
    made = manifest.read(tmp_path / "two.tape")
    text = (made.path / "snippets/forth/run.forth").read_text()
    assert text.startswith("forth: model.tape float32 x:float32[batch=1..8,4], ids:int64")
    snippets = [entry.path for entry in made.files if entry.path.startswith("snippets/")]
    assert snippets == ["snippets/forth/run.forth"]
    assert made.size == made.entry_path.stat().st_size
    assert not (tmp_path / "two.captured" / "snippets").exists()

    copy = modelexport.quantize(made.path)
    assert (copy.path / "snippets/forth/run.forth").read_text().startswith("forth: model.tape int8")


def test_a_language_that_no_target_has(nets, tmp_path):
    with pytest.raises(OptionError, match="no snippet in 'fort'") as caught:
        modelexport.export(nets("two", "two"), "tape", tmp_path, snippet=["fort"])
    assert "forth" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_snippet_stays_in_its_folder(nets, tmp_path):
    with pytest.raises(TargetError, match="plain file name"):
        modelexport.export(nets("two", "two"), "tape", tmp_path, snippet=["forth"], options={"escape": True})
    assert list(tmp_path.iterdir()) == []
