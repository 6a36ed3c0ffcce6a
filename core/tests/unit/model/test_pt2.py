"""A torch.export program that holds a pickle bomb is refused before torch unpickles it."""

import io
import os
import zipfile

import modelexport
import pytest
from modelexport.errors import SourceError, UnsafeFileError
from modelexport.model import pt2

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("program") / "program.pt2"
    exported = torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.ones(3, 4),))
    torch.export.save(exported, path)
    return path


class Bomb:
    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return os.mkdir, (self.witness,)


def armed(program, path, witness):
    """The program with its sample inputs replaced by a pickle that makes a folder when it is loaded."""
    import torch

    bomb = io.BytesIO()
    torch.save(Bomb(witness), bomb)
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, bomb.getvalue() if "sample_inputs" in name else source.read(name))
    return path


def test_a_harmless_program_passes(program, tmp_path):
    pt2.check_program(program)
    (artifact,) = modelexport.export(program, "tape", tmp_path)
    assert artifact.parity.verified is True


def test_a_bomb_is_refused_and_not_lit(program, tmp_path):
    witness = tmp_path / "lit"
    path = armed(program, tmp_path / "bomb.pt2", witness)
    with pytest.raises(UnsafeFileError, match="--allow-pickle"):
        modelexport.export(path, "tape", tmp_path)
    assert not witness.exists()


def test_the_bomb_is_real(program, tmp_path):
    """Otherwise the test above would prove nothing: with --allow-pickle, torch does light it."""
    witness = tmp_path / "lit"
    path = armed(program, tmp_path / "bomb.pt2", witness)
    with pytest.raises(SourceError, match=r"is no torch\.export program, or a damaged one"):
        modelexport.export(path, "tape", tmp_path, allow_pickle=True)
    assert witness.is_dir()


@pytest.mark.parametrize("member", ["program/data/constants/opaque_obj_0", "program/data/aotinductor/m/a.so"])
def test_opaque_objects_and_compiled_code_are_refused(program, tmp_path, member):
    path = tmp_path / "odd.pt2"
    path.write_bytes(program.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(UnsafeFileError, match=member.rsplit("/", 1)[1]):
        pt2.check_program(path)


def test_a_truncated_program_is_said_to_be_damaged(program, tmp_path):
    path = tmp_path / "short.pt2"
    path.write_bytes(program.read_bytes()[:2000])
    with pytest.raises(SourceError, match="damaged"):
        modelexport.export(path, "tape", tmp_path)
