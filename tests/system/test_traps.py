"""Models that a real exporter gets wrong without a word: the gate says so, and passes the twin of each."""

from pathlib import Path

import pytest

RESIZE = Path(__file__).parents[1] / "nets" / "resize.py"
PARITY = 3


@pytest.fixture
def export(mx, nets, tmp_path):
    """Export a trap, or its twin, to ONNX; gives the result and the artifact's place."""

    def run(factory):
        source = f"{RESIZE}:{factory}" if factory.startswith("resize") else nets("traps", factory)
        result = mx("export", source, "-t", "onnx", "-o", tmp_path, "--name", "net")
        return result, tmp_path / "net.onnx"

    return run


#: factory → what the error must say
TRAPS = {
    "size_one": "in case 'low'",
    "square": "in case 'equal'",
    "resize_bilinear": "max abs difference",
    "resize_bicubic": "max abs difference",
    "resize_corners": "max abs difference",
    "counter": "second call",
}


@pytest.mark.parametrize("factory", TRAPS)
def test_a_trap_is_caught(factory, export, read_manifest):
    result, place = export(factory)
    assert result.code == PARITY, (result.code, result.err, result.out)
    assert TRAPS[factory] in result.error
    failed = read_manifest(place.with_name("net.onnx.failed"))
    assert failed["verified"] is False
    assert failed["parity"]["reason"] in result.error
    assert [path.name for path in place.parent.iterdir()] == ["net.onnx.failed"]


@pytest.mark.parametrize("factory", [*(f"{factory}_twin" for factory in TRAPS), "resize_to_size", "branch_twin"])
def test_what_is_exported_right_passes(factory, export, read_manifest):
    result, place = export(factory)
    assert result.code == 0, (result.code, result.err)
    manifest = read_manifest(place)
    assert manifest["verified"] is True
    assert {"middle", "seed 2", "seed 3"} <= set(manifest["parity"]["cases"])
    assert all(row["ok"] and row["used"] <= 1 for row in manifest["parity"]["outputs"])
    assert {row["name"] for row in manifest["parity"]["outputs"]} == {o["name"] for o in manifest["outputs"]}
    assert [path.name for path in place.parent.iterdir()] == [place.name]
