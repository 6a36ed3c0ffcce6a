"""What is wrong with options alone is said before a model is loaded, and nothing heavy is imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from modelexport import Source
from modelexport.contract import build_options
from modelexport.errors import OptionError, SourceError
from modelexport_tensorrt_llm import ExportOptions, QuantizeOptions, RunOptions, mx_check


def build(kind, values):
    return build_options(kind, values, "target 'tensorrt-llm'")


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"quantization": "int3"}, "quantization=int3 is not allowed", "w8a8-smoothquant"),
        ({"quantization": "fp8"}, "fp8 takes its scales from texts, and none are given", "-k calibration="),
        ({"quantization": "fp8", "calibration": "no.txt"}, "calibration=no.txt: there is no such path", ".jsonl"),
        ({"calibration": "texts.txt"}, "is for a quantization, and none is asked for", "-k quantization=fp8"),
        ({"column": "text"}, "column=text goes with calibration=", "leave it out"),
        ({"tp": "0"}, "tp=0 makes no sense", "1 or more"),
        ({"samples": "0"}, "samples=0 makes no sense", "1 or more"),
        ({"length": "1"}, "length=1 makes no sense", "2 or more"),
        ({"group-size": "0"}, "group-size=0 makes no sense", "1 or more"),
        ({"max-batch-size": "0"}, "max-batch-size=0 makes no sense", "1 or more"),
        ({"max-seq-len": "-1"}, "max-seq-len=-1 makes no sense", "1 or more"),
        ({"max-perplexity-ratio": "nan"}, "max-perplexity-ratio=nan makes no sense", "1.02"),
    ],
)
def test_wrong_options_of_an_export_are_refused(values, message, hint):
    with pytest.raises(OptionError) as caught:
        build(ExportOptions, values)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (QuantizeOptions, {"quantization": "none"}, "quantization=none is not allowed"),
        (QuantizeOptions, {"length": "0"}, "length=0 makes no sense"),
        (QuantizeOptions, {"group-size": "-128"}, "group-size=-128 makes no sense"),
        (QuantizeOptions, {"max-perplexity-ratio": "0"}, "max-perplexity-ratio=0 makes no sense"),
        (RunOptions, {"threads": "-1"}, "threads=-1 makes no sense"),
    ],
)
def test_wrong_options_of_other_verbs_are_refused(kind, values, message):
    with pytest.raises(OptionError, match=message):
        build(kind, values)


def test_an_engine_takes_its_builder(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="trtllm-build, which is not on the PATH") as caught:
        build(ExportOptions, {"engine": "true"})
    assert "leave engine out" in caught.value.hint
    (tmp_path / "trtllm-build").touch(0o755)
    assert build(ExportOptions, {"engine": "true"}).engine


def test_what_is_right_is_accepted(tmp_path):
    (tmp_path / "texts.txt").touch()
    for place in (tmp_path / "texts.txt", tmp_path, "my.texts:rows", "texts.py:rows"):
        options = build(ExportOptions, {"quantization": "fp8", "calibration": str(place)})
        assert options.calibration == str(place)


def test_checking_options_imports_nothing_heavy():
    code = (
        "import sys, modelexport_tensorrt_llm as plugin\n"
        "plugin.mx_target(), plugin.ExportOptions(quantization='fp8', calibration='texts.py:rows')\n"
        "assert not {'torch', 'transformers', 'modelopt', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(None, ref="net.py:net"), "net.py:net is no Hugging Face folder"),
        (Source(None, ref="here", path=Path("gone")), "here is no Hugging Face folder"),
    ],
)
def test_a_source_that_is_no_folder_is_refused_before_any_work(source, message):
    mx_check({"export": ExportOptions()}, None)
    with pytest.raises(SourceError, match=message):
        mx_check({"export": ExportOptions()}, source)


def test_a_folder_of_another_task_is_refused_before_any_work(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    source = Source(None, ref="bert", path=tmp_path, processing={"task": "text-classification"})
    with pytest.raises(SourceError, match="bert is for text-classification"):
        mx_check({"export": ExportOptions()}, source)
