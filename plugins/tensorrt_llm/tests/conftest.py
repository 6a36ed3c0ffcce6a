"""What the tests of the TensorRT-LLM target share: a tiny language model, texts, and its exports.

The compliance kit has no part here: its specimens are modules in memory, and this target takes language models in
folders. What it asks of every target is asked of such a folder, in system/.
"""

import random

import pytest
from modelexport.testing import beside


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def transformers(torch):
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def tiny(transformers):
    """The module tiny.py, which imports torch and transformers."""
    return beside(__file__, "tiny")


@pytest.fixture(scope="session")
def source(tiny, tmp_path_factory):
    """The folder of a tiny Llama; what is done with it takes ModelOpt."""
    pytest.importorskip("modelopt")
    return tiny.llama(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="session")
def texts(tiny, tmp_path_factory):
    """Forty lines, of which ten are held out."""
    drawn = random.Random(0)
    lines = [" ".join(drawn.choices(tiny.WORDS, k=drawn.randint(5, 30))) for _ in range(40)]
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="session")
def export(source, texts, tmp_path_factory):
    """Export the tiny model in a format, once."""
    import modelexport as mx

    artifacts = {}

    def once(name):
        if name not in artifacts:
            options = {"quantization": name, "kv-cache": "fp8" if name != "none" else "auto"}
            options |= {} if name == "none" else {"calibration": str(texts)}
            (artifacts[name],) = mx.export(source, "tensorrt-llm", tmp_path_factory.mktemp(name), options=options)
        return artifacts[name]

    return once
