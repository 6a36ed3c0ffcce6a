"""Capture and the ONNX target: dims, names, opsets, and what is said where a model can't be captured."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def export(mx, tmp_path_factory):
    """`export(SOURCE, …)` to ONNX; gives the result and the artifact's place."""

    def run(source, *more, target="onnx"):
        folder = tmp_path_factory.mktemp("export")
        return mx("export", source, "-t", target, "-o", folder, "--name", "net", *more), folder / f"net.{target}"

    return run


@pytest.fixture(scope="module")
def exported(export, nets):
    """As `export`, for a factory of nets/shapes.py that must pass; each is exported once."""
    done = {}

    def run(factory):
        if factory not in done:
            result, done[factory] = export(nets("shapes", factory))
            assert result.code == 0, result.err
        return done[factory]

    return run


def _shape(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _graph(place):
    import onnx

    return onnx.load(place / "model.onnx").graph


def _line(source, text):
    lines = Path(source.rpartition(":")[0]).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


# ------------------------------------------------------------------ dims


def test_example_of_batch_one_is_traced_at_two_or_more(export, nets, read_manifest):
    """torch.export specialises a size of 1: the artifact must still take every batch."""
    result, place = export(nets("shapes", "example_of_one"), "--input", "x:float32[batch=1..8,6]")
    assert result.code == 0, result.err
    manifest = read_manifest(place)
    assert manifest["verified"] is True
    assert {"example", "low", "high batch=8"} <= set(manifest["parity"]["cases"])
    assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 6]}]
    assert manifest["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 3]}]
    assert manifest["dims"] == {"batch": {"min": 1, "max": 8, "multiple": 1}}
    assert _shape(_graph(place).input[0]) == ["batch", 6]


def test_example_alone_fixes_the_shape(exported, read_manifest):
    place = exported("example_of_one")
    assert read_manifest(place)["inputs"][0]["shape"] == [1, 6]
    assert _shape(_graph(place).input[0]) == [1, 6]


def test_dim_without_a_high_end_is_open(export, nets, mx, read_manifest):
    result, place = export(nets("shapes", "example_of_one"), "--input", "x:float32[batch,6]")
    assert result.code == 0, result.err
    assert read_manifest(place)["dims"]["batch"]["max"] is None
    import modelexport
    import numpy as np

    with modelexport.run(place) as session:
        assert session({"x": np.ones((301, 6), np.float32)})["output"].shape == (301, 3)


def test_inputs_share_dims_by_name(exported, read_manifest):
    import modelexport
    import numpy as np
    from modelexport.errors import InputError

    place = exported("scores")
    manifest = read_manifest(place)
    assert [spec["shape"] for spec in manifest["inputs"]] == [["batch", "seq"], ["batch", "seq"]]
    assert [spec["shape"] for spec in manifest["outputs"]] == [["batch"], ["batch", "seq"]]
    assert list(manifest["dims"]) == ["batch", "seq"]
    ids, mask = np.ones((2, 3), np.int64), np.ones((2, 4), np.int64)
    with modelexport.run(place) as session, pytest.raises(InputError, match="another input has 3"):
        session({"ids": ids, "mask": mask})


def test_names_reach_the_onnx_file(exported):
    graph = _graph(exported("scores"))
    assert [value.name for value in graph.input] == ["ids", "mask"]
    assert [value.name for value in graph.output] == ["output_0", "output_1"]
    assert [_shape(value) for value in graph.input] == [["batch", "seq"], ["batch", "seq"]]
    assert [_shape(value) for value in graph.output] == [["batch"], ["batch", "seq"]]


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        ("nested", ["logits", "hidden.0", "hidden.1.0", "x_out"]),
        ("pair", ["output_0", "output_1.0", "output_1.1"]),
        ("named_pair", ["plus", "total", "whole"]),
    ],
)
def test_outputs_in_dicts_and_tuples_have_names(factory, names, exported, read_manifest):
    place = exported(factory)
    manifest = read_manifest(place)
    assert [spec["name"] for spec in manifest["outputs"]] == names
    assert [value.name for value in _graph(place).output] == names
    assert {row["name"] for row in manifest["parity"]["outputs"]} == set(names)


def test_multiples_of_a_step(exported, read_manifest):
    """A net that halves its input: every case has sizes that it takes, and other sizes are refused."""
    import modelexport
    import numpy as np
    from modelexport.errors import InputError

    place = exported("unet")
    manifest = read_manifest(place)
    assert manifest["dims"]["height"] == {"min": 16, "max": 48, "multiple": 8}
    assert manifest["dims"]["width"] == {"min": 16, "max": 64, "multiple": 16}
    assert manifest["outputs"][0]["shape"] == ["batch", 2, "height", "width"]
    assert {"low", "high height=48", "high width=64", "equal"} <= set(manifest["parity"]["cases"])
    with modelexport.run(place) as session:
        assert session({"x": np.zeros((1, 2, 40, 32), np.float32)})["output"].shape == (1, 2, 40, 32)
        with pytest.raises(InputError, match="axis 2"):
            session({"x": np.zeros((1, 2, 41, 32), np.float32)})


# ------------------------------------------------------------------ what can't be captured


def test_sequence_that_the_model_unrolls(export, nets):
    result, place = export(nets("shapes", "recurrent"))
    assert result.code == 10
    assert "does not take every size of seq" in result.error
    assert "Give seq a fixed size" in result.hint
    assert not place.exists()
    assert export(nets("shapes", "recurrent"), "--input", "x:float32[batch=1..4,5,4]")[0].code == 0


def test_range_that_crosses_a_branch_on_size(export, nets):
    result, _ = export(nets("shapes", "small"))
    assert result.code == 10
    assert "batch" in result.error
    assert "Dim('batch', max=5)" in result.hint
    assert export(nets("shapes", "small"), "--input", "x:float32[batch=1..5,4]")[0].code == 0


def test_sizes_in_steps_are_asked_for(export, nets):
    result, _ = export(nets("shapes", "eights"))
    assert result.code == 12
    assert f"shapes.py:{_line(nets('shapes', 'eights'), 'x.view(-1, 8)')} " in result.error
    assert "count=LOW..HIGH/STEP" in result.hint
    assert export(nets("shapes", "eights"), "--input", "x:float32[count=8..64/8]")[0].code == 0


# ------------------------------------------------------------------ the ONNX target


@pytest.mark.parametrize("opset", range(18, 24))
def test_opset_is_written_as_asked(opset, export, nets, read_manifest):
    import onnx

    result, place = export(nets("shapes", "example_of_one"), "-k", f"opset={opset}")
    assert result.code == 0, result.err
    model = onnx.load(place / "model.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    assert read_manifest(place)["details"]["opset"] == opset
    assert read_manifest(place)["lineage"][-1]["options"]["opset"] == opset


@pytest.mark.parametrize(("opset", "nearest"), [(17, 18), (26, 25)])
def test_opset_that_cannot_be_written_is_refused(opset, nearest, export, nets):
    result, place = export(nets("shapes", "example_of_one"), "-k", f"opset={opset}")
    assert result.code == 6
    assert f"opset {opset} can't be written" in result.error
    assert f"-k opset={nearest}" in result.hint
    assert list(place.parent.iterdir()) == []


def test_external_data_is_part_of_the_artifact(export, nets, read_manifest):
    result, place = export(nets("shapes", "example_of_one"), "-k", "external_data=always")
    assert result.code == 0, result.err
    assert "model.onnx.data" in [file["path"] for file in read_manifest(place)["files"]]
    assert read_manifest(place)["verified"] is True


def test_unsupported_operators_are_listed_at_once(export, nets):
    source = nets("shapes", "unsupported")
    result, place = export(source)
    assert result.code == 11
    assert "3 operators have no ONNX translation" in result.error
    eigh, bessel = _line(source, "torch.linalg.eigh"), _line(source, "torch.special.bessel_j0")
    assert (
        f"aten._linalg_eigh.default in the model (Unsupported) at {source.rpartition(':')[0]}:{eigh}"
        in result.error
    )
    for operator in ("bessel_j0", "bessel_i1e"):
        assert (
            f"prims.{operator}.default in inner.1 (Bessel) at {source.rpartition(':')[0]}:{bessel}" in result.error
        )
    assert "--register" in result.hint
    assert list(place.parent.iterdir()) == []


@pytest.fixture
def fresh_translations(monkeypatch, nets):
    import sys

    from modelexport_onnx import operators

    monkeypatch.setattr(operators, "TRANSLATIONS", {})
    monkeypatch.chdir(Path(nets("custom_op", "net").rpartition(":")[0]).parent)
    yield
    for name in ("softplus_onnx", "softplus_onnx_wrong"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("fresh_translations")
def test_operator_of_the_users_own(export, nets, read_manifest):
    source = nets("custom_op", "net")
    result, _ = export(source)
    assert result.code == 11
    assert "1 operator has no ONNX translation: nets.shifted_softplus.default" in result.error
    result, place = export(source, "--register", "softplus_onnx")
    assert result.code == 0, result.err
    assert read_manifest(place)["verified"] is True
    assert "Softplus" in read_manifest(place)["details"]["operators"]


@pytest.mark.usefixtures("fresh_translations")
def test_wrong_translation_is_caught_by_the_gate(export, nets):
    result, place = export(nets("custom_op", "net"), "--register", "softplus_onnx_wrong")
    assert result.code == 3
    assert "max abs difference 0.5" in result.error
    assert not place.exists()


@pytest.mark.usefixtures("fresh_translations")
def test_register_of_a_module_that_is_not_there(export, nets):
    result, _ = export(nets("custom_op", "net"), "--register", "softplus_onx")
    assert result.code == 4
    assert "softplus_onx" in result.error


# ------------------------------------------------------------------ captured programs as sources


def test_captured_program_goes_on_to_onnx(export, nets, read_manifest, mx, tmp_path):
    """module → captured artifact → ONNX, and program.pt2 → ONNX: dims and names survive both."""
    result, place = export(nets("shapes", "scores"), target="captured")
    assert result.code == 0, result.err
    result = mx("export", place, "-t", "onnx", "-o", tmp_path)
    assert result.code == 0, result.err
    manifest = read_manifest(tmp_path / "net.onnx")
    assert manifest["verified"] is True
    assert [step["target"] for step in manifest["lineage"]] == ["captured", "onnx"]
    assert [_shape(value) for value in _graph(tmp_path / "net.onnx").input] == [["batch", "seq"]] * 2
    declared = ["ids:int64[batch=1..4,seq=1..9]=0..30", "mask:int64[batch,seq]=mask"]
    arguments = [word for text in declared for word in ("--input", text)]
    result = mx("export", place / "program.pt2", "-t", "onnx", "-o", tmp_path, *arguments)
    assert result.code == 0, result.err
    assert read_manifest(tmp_path / "program.onnx")["verified"] is True
