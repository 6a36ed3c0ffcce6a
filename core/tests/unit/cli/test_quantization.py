"""What `mx quantize` prints, and `mx inspect --quantization`: one line, tables, JSON, a chart."""

import json
import re
import shutil

import modelexport
import pytest

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def source(rounded, tmp_path):
    """A copy of the artifact in a folder of its own."""
    return shutil.copytree(rounded / "net.rounder", tmp_path / "net.rounder")


def report(artifact):
    return artifact.quantization_report().to_json()


# --------------------------------------------------------------------------------------- the command


def test_the_command_says_what_was_made_and_lost(mx, source, rounded):
    result = mx("quantize", source, "-k", "bits=7", "--calibration", rounded / "x.npz", "--max-drop", "0.01")
    assert (result.code, result.err) == (0, "")
    made = modelexport.load(source.with_name("net.quantized.rounder"))
    first, second, *_ = result.out.splitlines()
    assert first.startswith(f"{made.path}  int8  ")
    assert f"({made.size / modelexport.load(source).size:.2f} × net.rounder)  verified" in first
    score = report(made)["score"]
    assert second.strip() == (
        f"cosine {score['score']:.4f} on 10 held-out samples of {rounded / 'x.npz'}, "
        f"drop {score['drop']:.2g} (max 0.01)"
    )
    assert "7 bits" in result.out
    assert "95% of integers equal" in result.out
    as_json = mx("quantize", source, "--json").json
    assert as_json["details"]["quantization"]["score"]["max_drop"] is None


def test_mode_is_short_for_the_option(mx, source, rounded):
    result = mx("quantize", source, "--mode", "static", "--calibration", rounded / "x.npz", "--json")
    assert result.json["lineage"][-1]["options"] == {"mode": "static", "bits": 8, "find": False}
    assert "bits of a weight" in mx("quantize", source, "-k", "help").out


def test_the_warnings_are_shown(mx, source, rounded):
    result = mx("quantize", source, "--mode", "static", "--calibration", rounded / "x.npz")
    assert "  warning: input 'x': calibration saw" in result.out


# --------------------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def quantized(rounded, tmp_path_factory):
    """A quantized artifact with a trail."""
    source = shutil.copytree(rounded / "net.rounder", tmp_path_factory.mktemp("report") / "net.rounder")
    options = {"bits": 4, "find": True}
    return modelexport.quantize(source, options=options, calibration=rounded / "x.npz", max_drop=1e-4).path


def with_report(path, place, **changes):
    """A copy of an artifact with another report."""
    shutil.copytree(path, place)
    data = json.loads((place / "manifest.json").read_text())
    data["details"]["quantization"] |= changes
    (place / "manifest.json").write_text(json.dumps(data))
    return place


def layer(index, **changes):
    """A layer with a name as long as they get."""
    name = f"encoder.layers.{index}.attention.output.dense.something/MatMul_of_the_{index}th_layer"
    data = {"name": name, "kind": "MatMul", "precision": ("int8", "float32")[index % 2], "sqnr": 20.0 + index % 17}
    return data | {"latency": 1 / (index + 2)} | changes


def test_inspect_says_in_one_line_what_quantization_did(mx, quantized):
    result = mx("inspect", quantized)
    (line,) = (line for line in result.out.splitlines() if line.startswith("  quantization: "))
    score = report(modelexport.load(quantized))["score"]["score"]
    assert line.startswith(f"  quantization: weights; 1 layers int7; cosine {score:.4f} (--quantization")
    assert "weight_range" not in result.out


def test_the_report_as_tables(mx, quantized, tmp_path):
    rows = [layer(0, weight_range=[-1.25, 3.5], cost=0.031), layer(1, note="left in float")]
    shown = mx("inspect", with_report(quantized, tmp_path / "x.rounder", layers=rows, warnings=["dead"]),
               "--quantization")  # fmt: skip
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[1].strip() == "settings: mode=weights, bits=7"
    assert lines[2].strip().startswith("cosine 1.0000 on 10 held-out samples")
    assert re.search(r"drop [\d.]+e-05 \(max 0\.0001\)", lines[2])
    heading = next(line for line in lines if line.split()[:1] == ["layer"])
    assert "activations" not in heading, "nothing was measured"
    (first,) = (line for line in lines if "_the_0th_layer" in line)
    assert first.split()[1:] == ["MatMul", "int8", "-1.25..3.5", "20.0", "50.0%", "3.1%"]
    assert [line.split()[0] for line in lines if " bits " in line] == ["4", "5", "6", "7"]
    assert "  warning: dead" in shown.out


def test_the_report_as_json(mx, quantized):
    shown = mx("inspect", quantized, "--quantization", "--json")
    assert shown.json == json.loads(json.dumps(report(modelexport.load(quantized))))


def test_an_artifact_that_is_not_quantized_has_no_report(mx, source):
    result = mx("inspect", source, "--quantization")
    assert (result.code, "is not quantized" in result.error) == (8, True)


@pytest.mark.parametrize("count", [1, 5, 300])
def test_the_chart_grows_with_the_layers(mx, quantized, tmp_path, count):
    image = pytest.importorskip("PIL.Image")
    made = with_report(quantized, tmp_path / "x.rounder", layers=[layer(index) for index in range(count)])
    result = mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.png")
    assert (result.code, result.err) == (0, "")
    with image.open(tmp_path / "layers.png") as drawn:
        assert drawn.height == pytest.approx(110 * (1.3 + 0.2 * max(count, 4)), abs=1)
        assert drawn.width == 1210
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 10
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["layers.png"]


def test_the_chart_names_layers_and_precisions(mx, quantized, tmp_path):
    rows = [
        layer(0),
        layer(1, name="$x_1$/<&>", latency=None),
        layer(2, sqnr=None, latency=None, precision="int4"),
    ]
    made = with_report(quantized, tmp_path / "x.rounder", layers=rows)
    assert mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.svg").code == 0
    text = (tmp_path / "layers.svg").read_text()
    for words in (
        "encoder.layers.0.attent…",
        "$x_1$/&lt;&amp;&gt;",
        "int8",
        "float32",
        "int4",
        "share of the latency",
    ):
        assert words in text, words


def test_names_are_shortened_in_the_middle():
    from modelexport.cli.show.charts import shortened

    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd…ghijk"
    assert {len(shortened("n" * 99, most)) for most in (9, 10)} == {9, 10}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--quantization", "--plot", "{tmp}/layers.gif"], 6, "unknown suffix '.gif'"),
        (["--quantization", "--plot", "{tmp}/absent/layers.png"], 7, "can't write"),
        (["--plot", "{tmp}/layers.png"], 2, "--plot goes with --quantization"),
    ],
)
def test_a_chart_that_can_not_be_drawn(mx, quantized, tmp_path, arguments, code, said):
    result = mx("inspect", quantized, *(part.format(tmp=tmp_path) for part in arguments))
    assert (result.code, said in result.error) == (code, True)
    assert not list(tmp_path.iterdir())


def test_a_report_without_figures_is_not_drawn(mx, quantized, tmp_path):
    made = with_report(quantized, tmp_path / "x.rounder", layers=[])
    result = mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.png")
    assert (result.code, result.error) == (8, "the report has no figures for its layers")
