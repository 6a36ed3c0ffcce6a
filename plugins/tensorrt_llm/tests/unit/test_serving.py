"""What the server is told, and which splits over GPUs a model's shapes allow."""

import pytest
from modelexport.errors import OptionError
from modelexport_tensorrt_llm import serving
from modelexport_tensorrt_llm.serving import Serving

SHAPES = {"num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 96}


def test_limits_are_written_where_they_are_set(tmp_path):
    Serving(tp=2, kv_cache="fp8", max_seq_len=48).write(tmp_path)
    lines = (tmp_path / "serve.yaml").read_text().splitlines()
    assert lines == ["tensor_parallel_size: 2", "kv_cache_config:", "  dtype: fp8", "max_seq_len: 48"]
    assert (tmp_path / "serve.sh").stat().st_mode & 0o111


def test_it_comes_back_from_a_manifest():
    served = Serving(4, "fp8", 8, None)
    assert Serving.from_json(served.to_json()) == served


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_splits_that_the_shapes_allow(tp):
    serving.check(Serving(tp), SHAPES)


@pytest.mark.parametrize(
    ("tp", "shapes", "message"),
    [
        (3, SHAPES, r"tp=3 does not divide the model's 8 attention heads \(give one of 1, 2, 4, 8\)"),
        (4, {**SHAPES, "num_key_value_heads": 3}, "tp=4 neither divides the model's 3 key-value heads nor"),
        (8, {**SHAPES, "intermediate_size": 100}, "tp=8 does not divide the model's 100 hidden features"),
        (5, {"n_head": 12}, "tp=5 does not divide the model's 12 attention heads"),
    ],
)
def test_splits_that_they_do_not_allow(tp, shapes, message):
    with pytest.raises(OptionError, match=message):
        serving.check(Serving(tp), shapes)
