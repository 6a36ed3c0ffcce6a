"""Which files are TorchScript archives, and what is said of those that can't be sources."""

import zipfile

import numpy as np
import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import InputError, SourceError
from modelexport_torchscript import mx_load


def test_an_archive_whose_inputs_are_not_declared(torch, silero):
    with pytest.raises(InputError, match=r"forward\(Tensor x, int sr\) -> Tensor") as caught:
        mx_load(str(silero), LoadOptions())
    assert "--input 'sr:int64[]=" in caught.value.hint
    with pytest.raises(InputError, match="no parameter 'rate'"):
        mx_load(str(silero), LoadOptions(inputs=("x:float32[1,512]", "rate:int64[]=1..2")))


def test_files_that_hold_no_torchscript(tmp_path, torch, nets, rows):
    model = nets.source("classifier").module
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.save(model, tmp_path / "pickled.pt")
    (tmp_path / "text.pt").write_text("PK is how it begins")
    np.savez(tmp_path / "arrays.npz", x=rows)
    for name in ("weights.pt", "pickled.pt", "arrays.npz", "absent.pt", "", "hf/some-id"):
        assert mx_load(str(tmp_path / name), LoadOptions()) is None, name
    with pytest.raises(SourceError, match="no TorchScript archive"):
        mx_load(str(tmp_path / "text.pt"), LoadOptions())


def test_damaged_archives(tmp_path, torch, nets):
    place = tmp_path / "net.pt"
    torch.jit.script(nets.source("classifier").module).save(str(place))
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"net\.pt is no TorchScript archive, or a damaged one"):
        mx_load(str(place), LoadOptions())
    (tmp_path / "junk.jit").write_bytes(b"junk")
    with pytest.raises(SourceError, match=r"junk\.jit is no TorchScript archive"):
        mx_load(str(tmp_path / "junk.jit"), LoadOptions())
    place.write_bytes(whole)
    with zipfile.ZipFile(place) as good, zipfile.ZipFile(tmp_path / "code.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, b"def" if name.endswith(".py") else good.read(name))
    with pytest.raises(SourceError, match=r"code\.pt: PyTorch can't load code\.pt: expected ident"):
        mx_load(str(tmp_path / "code.pt"), LoadOptions())
