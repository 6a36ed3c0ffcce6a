"""What an archive could do to this machine is found before PyTorch loads it, however it is written."""

import json
import re
import subprocess
import sys
import zipfile

import modelexport as mx
import numpy as np
import pytest
from modelexport.contract import Source
from modelexport.errors import RuntimeFailure, UnsafeFileError
from modelexport_torchscript import files, trust

CLASS = """class Net(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    {}
    return torch.add(x, 1)
"""

#: what saves a tensor where PyTorch's lexer takes the text as it stands, or could
SAVING = [
    'torch.save(x, "{}")',
    'ops.aten.save(x, "{}")',
    'torch.autograd.save(x, "{}")',
    'getattr(torch, "save")(x, "{}")',
    'getattr(torch, "sa" "ve")(x, "{}")',
    'getattr(torch, "sa\\166e")(x, "{}")',
    'getattr(torch, "\\x73ave")(x, "{}")',
    'getattr(getattr(ops, "aten"), "save")(x, "{}")',
    'getattr(ops, "aten").save(x, "{}")',
    't = torch\n    t.save(x, "{}")',
    't = ops\n    t.aten.save(x, "{}")',
    't = ops.aten\n    t.save(x, "{}")',
    '(torch.\n     save)(x, "{}")',
    '(torch.# "\n     save)(x, "{}")',
    'torch.\\\n  save(x, "{}")',
    'torch.\fsave(x, "{}")',
    'torch.\tsave(x, "{}")',
    'torch.\rsave(x, "{}")',
    '_0 = """a"b"""\n    torch.save(x, "{}")',
    "_0 = '''a\\''''\n    torch.save(x, \"{}\")",
    "_0 = 'it\\'s'\n    torch.save(x, '{}')",
    "# it's nothing\n    torch.save(x, '{}')",
    'if True:\n      torch.save(x, "{}")\n    else:\n      pass',
    'fork(torch.save, x, "{}")',
]

#: what does other things than compute
OTHER = {
    '_0 = torch.from_file("/etc/hostname", False, 4)': "calls aten::from_file",
    "_0 = ops.image.read_file(x)": "calls image::read_file",
    "_0 = ops.mine.run(x)": "calls mine::run",
    '_0 = rpc_async("worker", x)': "calls prim::rpc_async",
    "_0 = ops.prim.rpc_sync(x)": "calls prim::rpc_sync",
    "_0 = ops.c10d.send(x)": "calls c10d::send",
    "_0 = ops.inductor._reinterpret_tensor(x, [4], [1], 99)": "calls inductor::_reinterpret_tensor",
    "_0 = __torch__.torch.classes._nnapi.Compilation()": r"uses the class torch.classes._nnapi.Compilation",
    '_0 = getattr(getattr(__torch__, "torch"), "classes")': "looks up classes by name",
    '_0 = getattr(__torch__, "torch").classes.dist_rpc.Info("a", 0)': "uses the class torch.classes.dist_rpc",
    "_0 = torch.sävе(x)": "holds code that torch.jit.save does not write",
}

HARMLESS = [
    "save = torch.mul(x, 2)",
    '_0 = "torch.save(x, 1) # \\"quoted\\" and \\n\\\\"',
    'ops.prim.RaiseException("it can\'t save", "builtins.ValueError")',
    '_0 = getattr(self, "0")\n    _1 = torch.format("{}", 1.5e-05)',
    "_0 = ops.quantized.linear(x, self.packed, 1., 0)\n    _1 = [1, -2, 3.5, inf, 1j]",
]


def archive(path, line, **more):
    """An archive by hand whose forward begins with `line`, with further members by name."""
    members = {
        "data.pkl": b"\x80\x02c__torch__\nNet\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89"
        b"X\x16\x00\x00\x00_is_full_backward_hookq\x02Nub.",
        "code/__torch__.py": CLASS.replace("{}", line).encode(),
        "constants.pkl": b"\x80\x02).",
        "version": b"3\n",
        **more,
    }
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(f"net/{name}", content)
    return path


def refused(path, match):
    with pytest.raises(UnsafeFileError, match=match) as caught:
        files.load(path)
    assert "allow-file-access" in caught.value.hint


@pytest.mark.parametrize("line", SAVING)
def test_code_that_saves_is_refused_however_it_is_written(line, tmp_path, torch):
    saved = tmp_path / "saved"
    path = archive(tmp_path / "net.pt", line.replace("{}", str(saved)))
    refused(path, r"net\.pt .+ \(code/__torch__\.py:\d+\): loading or running it could touch files")
    assert not saved.exists()


def test_what_is_trusted_is_loaded(tmp_path, torch):
    path = archive(tmp_path / "net.pt", SAVING[0].format(tmp_path / "saved"))
    files.load(path, trusted=True)(torch.zeros(2))
    assert (tmp_path / "saved").exists()


def test_code_that_runs_as_it_is_loaded_is_refused_before(tmp_path, torch):
    """`__setstate__` is called by torch.jit.load itself."""
    saved = tmp_path / "saved"

    class Restoring(torch.nn.Module):
        def __init__(self, where: str):
            super().__init__()
            self.where = where

        @torch.jit.export
        def __getstate__(self):
            return self.where, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]):
            self.where = state[0]
            self.training = state[1]
            torch.save(1, self.where)

        def forward(self, x):
            return x + 1

    torch.jit.script(Restoring(str(saved))).save(str(tmp_path / "net.pt"))
    refused(tmp_path / "net.pt", r"calls aten::save \(code/__torch__.*\.py:\d+\)")
    assert not saved.exists()
    files.load(tmp_path / "net.pt", trusted=True)
    assert saved.exists()


def test_the_line_that_is_named_is_the_line(tmp_path, torch):
    path = archive(tmp_path / "net.pt", "pass\n    pass\n    " + SAVING[0])
    number = CLASS.splitlines().index("    {}") + 3
    refused(path, rf"calls aten::save \(code/__torch__\.py:{number}\)")


@pytest.mark.parametrize(("line", "what"), OTHER.items())
def test_what_does_more_than_compute_is_refused(line, what, tmp_path, torch):
    refused(archive(tmp_path / "net.pt", line), what)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_looks_like_it_and_is_not_passes(line):
    assert list(trust.in_code(CLASS.replace("{}", line).encode())) == []


def test_a_member_that_nobody_reads_is_looked_at_too(tmp_path, torch):
    path = archive(tmp_path / "net.pt", "pass", **{"code/__torch__/torch/nn/other.py": b"def f():\n  ops.a.b()\n"})
    refused(path, r"calls a::b \(code/__torch__/torch/nn/other\.py:2\)")


@pytest.mark.parametrize("name", ["model.json", "code/libs.txt", "tensors/0", "../data.pkl", "a.so", "code/a.PY"])
def test_members_that_torch_does_not_write_are_refused(name, tmp_path, torch):
    refused(archive(tmp_path / "net.pt", "pass", **{name: b"x"}), "which torch.jit.save does not write")


def test_names_that_differ_in_case_are_refused(tmp_path, torch):
    """PyTorch's reader of zips finds either of them under both names."""
    code = CLASS.replace("{}", SAVING[0]).encode()
    refused(archive(tmp_path / "net.pt", "pass", **{"code/__TORCH__.py": code}), "holds two members|aten::save")
    refused(archive(tmp_path / "net.pt", "pass", **{"data/A": b"", "data/a": b""}), "holds two members 'data/a'")


def test_two_members_of_one_name_are_refused(tmp_path, torch):
    path = archive(tmp_path / "net.pt", "pass")
    with zipfile.ZipFile(path, "a") as out, pytest.warns(UserWarning, match="Duplicate name"):
        out.writestr("net/data.pkl", b"\x80\x02N.")
    refused(path, "holds two members 'data.pkl'")


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("data.pkl", b"\x80\x02c__torch__.torch.classes._nnapi\nCompilation\n)\x81."),
        ("constants.pkl", b"\x80\x02c__torch__.torch\nclasses.dist_rpc.WorkerInfo\n)\x81."),
        ("data.pkl", b"\x80\x02c__torch__\ntorch.classes.mine.Runner\n)\x81."),
    ],
)
def test_objects_of_classes_that_hold_no_weights_are_refused(member, content, tmp_path, torch):
    refused(archive(tmp_path / "net.pt", "pass", **{member: content}), r"holds an object of torch\.classes\.\w+")


def test_a_bomb_is_refused_and_not_unpacked(tmp_path, torch):
    path = archive(tmp_path / "net.pt", "pass")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as out, out.open("net/data/0", "w") as stream:
        for _ in range(64):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(RuntimeFailure, match="its tensors are larger than the file"):
        files.load(path)


def test_what_torch_saves_itself_passes(tmp_path, torch, nets):
    """Quantized weights are objects of PyTorch's own classes, dicts and branches bring all of the syntax."""

    class Several(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
            self.packed = torch.ao.nn.quantized.dynamic.Linear(4, 2)

        def forward(self, x: torch.Tensor, how: str = 'it\'s "plain"\n'):
            found: dict[str, torch.Tensor] = {"é\\": x}
            for key in found:
                x = found[key] if key != how else -x
            future = torch.jit.fork(self.layers, x)
            assert x.size(0) < 99, "it can't be saved"
            print("running", 1e-05)
            return self.packed(torch.jit.wait(future)), [1, 2.5, float("inf")]

    for index, module in enumerate([Several(), nets.source("classifier").module, torch.nn.LSTM(3, 4)]):
        for mode in ("script", "freeze"):
            compiled = torch.jit.script(module.eval())
            compiled = torch.jit.freeze(compiled) if mode == "freeze" else compiled
            files.save(compiled, tmp_path / f"{index}{mode}.pt")
            files.load(tmp_path / f"{index}{mode}.pt")


@pytest.fixture(scope="module")
def schemas(torch):
    """Every operator of the torch that is installed, before anything else has brought its own."""
    code = (
        "import json, torch\n"
        "every = torch._C._jit_get_all_schemas()\n"
        "print(json.dumps([[s.name, [a.name for a in s.arguments if 'str' in str(a.type)]] for s in every]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_operator_that_takes_the_name_of_a_file_is_refused(schemas):
    named = re.compile(r"file|path|url|host|port|addr|librar|socket|command|worker|folder|dir\b", re.IGNORECASE)
    opening = {name for name, texts in schemas if any(named.search(text) for text in texts)}
    assert {"aten::save", "aten::from_file"} <= opening
    spaces = {name.partition("::")[0] for name in opening if name.partition("::")[2] not in trust.REFUSED}
    assert not spaces & trust.NAMESPACES


def test_every_namespace_of_torch_is_classified(schemas):
    """Allowed are those that compute. Communication, compilers' internals, raw memory and tests are not."""
    others = {
        "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "_native", "_test", "c10d", "debug_mode_ops",
        "debugprims", "export", "inductor", "inductor_prims", "mkl", "mkldnn", "onnx", "profiler", "rngprims",
        "static_runtime", "symm_mem",
    }  # fmt: skip
    found = {name.partition("::")[0] for name, _ in schemas}
    assert not others & trust.NAMESPACES
    assert found <= others | trust.NAMESPACES


def test_what_is_no_zip_is_a_clean_refusal(tmp_path, torch):
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(RuntimeFailure, match=r"can't load net\.pt: it is no zip archive"):
        files.load(tmp_path / "net.pt")


def test_a_live_module_that_saves_is_refused_as_what_it_was_made_into(export, tmp_path, torch):
    class Saving(torch.nn.Module):
        def __init__(self, where: str):
            super().__init__()
            self.where = where

        def forward(self, x):
            torch.save(x, self.where)
            return x + 1

    def source():
        return Source(module=Saving(str(tmp_path / "saved")), inputs=("x:float32[4]",), name="saving")

    with pytest.raises(UnsafeFileError, match=r"the model as TorchScript calls aten::save \(code/"):
        export(source(), "script")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved"]
    assert export(source(), "script", allow_file_access=True).lineage[-1].options["allow-file-access"] is True


def test_an_archive_that_is_trusted_goes_all_the_way(export, tmp_path, torch):
    path = archive(tmp_path / "net.pt", SAVING[0].format(tmp_path / "saved"))
    inputs = ["x:float32[4]"]
    with pytest.raises(UnsafeFileError, match="calls aten::save"):
        export(str(path), inputs=inputs)
    assert not (tmp_path / "saved").exists()
    artifact = export(str(path), inputs=inputs, verify=True, allow_file_access=True)
    assert artifact.parity.verified is True
    for options in ({}, {"allow-file-access": "false"}):
        with pytest.raises(UnsafeFileError, match="calls aten::save"):
            mx.run(artifact.path, options)
    with pytest.raises(UnsafeFileError, match="calls aten::save"):
        mx.verify(artifact.path)
    with mx.run(artifact.path, {"allow-file-access": True}) as session:
        assert session({"x": np.zeros(4, np.float32)})["output"].tolist() == [1, 1, 1, 1]
