"""Programs of a file that no converter made: names are literals, whatever is in them."""

import pytest
from modelexport.errors import OptionError
from modelexport_tflite import files, snippets

LANGUAGES = {"cpp": "main.cpp", "kotlin": "Main.kt", "java": "Main.java", "swift": "main.swift"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_sizes_and_the_signature_are_the_files(language, handmade, tmp_path):
    ((name, text),) = snippets.write(handmade.artifact(tmp_path), language).items()
    assert name == LANGUAGES[language]
    assert "BATCH = 1" in text
    assert "// batch=1..8" in text
    assert '"serving_default"' in text
    assert "// [BATCH, 3]: your data" in text
    assert '"x"' in text
    assert '"y"' in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_quotes_and_dollars_in_names_end_no_literal(language, handmade, tmp_path):
    text = "".join(snippets.write(handmade.artifact(tmp_path, 'a"b$c'), language).values())
    assert '"a\\"b' in text
    assert language != "kotlin" or '"a\\"b\\$c"' in text  # a template there
    assert 'a"b' not in text


def test_a_file_without_a_signature_has_no_names_to_call_it_by(handmade, tmp_path):
    artifact = handmade.artifact(tmp_path)
    model = files.read(artifact.entry_path)
    model.signatureDefs = []
    files.write(model, artifact.entry_path)
    with pytest.raises(OptionError, match=r"model\.tflite has no signature"):
        snippets.write(artifact, "cpp")


@pytest.mark.parametrize("language", ["kotlin", "java"])
def test_a_dtype_that_java_lacks_is_refused(language, handmade, tmp_path):
    artifact = handmade.artifact(tmp_path)
    model = files.read(artifact.entry_path)
    model.subgraphs[0].tensors[0].type = 1  # FLOAT16
    files.write(model, artifact.entry_path)
    with pytest.raises(OptionError, match="'x' is float16, which Java has no type for"):
        snippets.write(artifact, language)
    assert "float16" not in "".join(snippets.write(artifact, "swift").values())
