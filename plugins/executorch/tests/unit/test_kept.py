"""The program that an artifact keeps for `mx quantize` may be a stranger's: it is checked before it is opened."""

import pytest
from modelexport.contract import Artifact
from modelexport.errors import ConversionError, SourceError, UnsafeFileError
from modelexport.testing import beside
from modelexport_executorch import QuantizeOptions, files
from modelexport_executorch.quantize import quantize

strangers = beside(__file__, "../../../../core/tests/strangers/pt2")


@pytest.fixture(scope="module")
def members(torch, tmp_path_factory):
    return strangers.read(strangers.harmless(tmp_path_factory.mktemp("program") / "program.pt2"))


@pytest.fixture
def keeping(tmp_path):
    """An artifact that keeps a program of these members: `keeping(members) -> Artifact`."""

    def make(members, folder="model/"):
        (tmp_path / files.PROGRAM).parent.mkdir()
        strangers.write(tmp_path / files.PROGRAM, members, folder)
        return Artifact(tmp_path, "executorch", files.FILE, (), ())

    return make


def test_a_harmless_program_is_loaded(keeping, members):
    assert files.kept(keeping(members)).program.range_constraints


@pytest.mark.parametrize("name", strangers.ATTACKS)
def test_no_attack_succeeds(name, keeping, members, tmp_path):
    marker = tmp_path / "lit"
    armed = strangers.ATTACKS[name](members, marker)
    artifact = keeping(armed, "" if name in ("legacy-json", "legacy-pt") else "model/")
    with pytest.raises((UnsafeFileError, SourceError), match=r"captured\.pt2") as caught:
        quantize(artifact, tmp_path / "out", QuantizeOptions(), None, None)
    assert "-k allow-pickle=true" in caught.value.hint
    assert not marker.exists()


def test_the_attack_is_real_where_it_is_trusted(keeping, members, tmp_path):
    marker = tmp_path / "lit"
    artifact = keeping(strangers.ATTACKS["sympify"](members, marker))
    with pytest.raises(ConversionError, match=r"captured\.pt2 is no torch\.export program"):
        quantize(artifact, tmp_path / "out", QuantizeOptions(allow_pickle=True), None, None)
    assert marker.exists()
