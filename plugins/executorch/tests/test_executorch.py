"""The ExecuTorch target: delegates, dims, state, what it refuses, and what it says of a program."""

import modelexport
import numpy as np
import pytest
import torch
from modelexport import Source, api
from modelexport.errors import ConversionError, InputError, OptionError, RuntimeFailure
from torch import nn


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Export a module, unverified: `make(module, "x:float32[2]", backend="portable") -> Artifact`."""

    def export(module, *inputs, verify=False, **options):
        source = Source(module.eval(), inputs=inputs)
        texts = {key.replace("_", "-"): str(value).lower() for key, value in options.items()}
        place = tmp_path_factory.mktemp("made")
        (made,) = modelexport.export(source, "executorch", place, options=texts, verify=verify)
        return made

    return export


def answers(artifact, **inputs):
    with api.run(artifact.path) as session:
        return session(inputs)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3), keepdim=True).flatten(1))


IMAGE = "image:float32[batch=1..64,3,16,16]"


@pytest.fixture(scope="module")
def cnn(make):
    return make(Cnn(), IMAGE, bundle=True, etrecord=True)


# --------------------------------------------------------------------------------------- dims


def test_a_batch_keeps_every_size(cnn):
    """PyTorch chooses its convolutions by batch size, which left ExecuTorch with 2 to 15."""
    image = np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32)
    (got,) = answers(cnn, image=image).values()
    with torch.no_grad():
        want = Cnn().eval()(torch.from_numpy(image))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_open_dims_get_a_bound(make):
    artifact = make(nn.Linear(3, 2), "input:float32[rows,3]", bound=40)
    assert artifact.details["bounds"] == {"rows": 40}
    assert "rows has no upper bound" in artifact.notes[0]
    with api.run(artifact.path) as session:
        assert session({"input": np.ones((40, 3), np.float32)})["output"].shape == (40, 2)
        with pytest.raises(InputError, match=r"rows.*40"):
            session({"input": np.ones((41, 3), np.float32)})


def test_reshapes_with_two_dynamic_dims_stay_on_the_cpu(make):
    """XNNPACK reshapes with one; its partitioner takes them, and its serializer then fails."""

    class Lines(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 4, 3, padding=1)

        def forward(self, x):
            return (self.conv(x).unsqueeze(-1) * 2).squeeze(-1)

    module = Lines()
    x = torch.randn(3, 4, 7)
    artifact = make(module, "x:float32[batch=1..4,4,length=2..9]")
    (got,) = answers(artifact, x=x.numpy()).values()
    np.testing.assert_allclose(got, module(x).detach(), atol=1e-5)


# --------------------------------------------------------------------------------------- backends


def test_xnnpack_takes_a_cnn(cnn):
    assert list(cnn.details["delegates"]) == ["XnnpackBackend"]
    assert cnn.details["delegated"]["share"] == 1.0
    assert cnn.details["delegated_operators"]["aten.convolution"] == 2
    assert sum(cnn.details["memory"]) >= 64 * 3 * 16 * 16 * 4  # its input at the largest batch


def test_the_kernels_are_those_of_the_file(make):
    from executorch.codegen.tools.selective_build import _get_program_from_buffer, _get_program_operators

    artifact = make(Cnn(), IMAGE, backend="portable")
    program = _get_program_from_buffer(artifact.entry_path.read_bytes())
    assert artifact.details["kernels"] == sorted(_get_program_operators(program))
    assert artifact.details["delegated"]["share"] == 0
    assert artifact.details["operators"]["aten.convolution"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("vulkan", "VulkanBackend"),
        ("coreml", "CoreMLBackend"),
        ("webgpu", "VulkanBackend"),
        ("native", "NativeBackend"),
    ],
)
def test_other_delegates_are_lowered_to_and_not_run(make, backend, runtime):
    artifact = make(Cnn(), "image:float32[2,3,16,16]", backend=backend, verify=True)
    assert runtime in artifact.details["delegates"]
    assert artifact.parity.verified == "structure"
    assert runtime in artifact.parity.reason


def test_what_the_first_backend_leaves_goes_to_the_next(make):
    table = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    artifact = make(table, "input:int64[2,5]=0..9", backend="xnnpack,vulkan")
    assert set(artifact.details["delegates"]) == {"XnnpackBackend", "VulkanBackend"}


def test_backends_that_take_more_than_the_wheel_are_refused(make):
    with pytest.raises(ConversionError, match=r"openvino.*2026"):
        make(Cnn(), IMAGE, backend="openvino")
    with pytest.raises(OptionError, match="vulcan") as error:
        make(Cnn(), IMAGE, backend="vulcan")
    assert "vulkan" in error.value.hint


# --------------------------------------------------------------------------------------- operators


def test_operators_without_a_kernel_are_listed_at_once(make):
    class Stranger(nn.Module):
        def forward(self, x):
            return torch.histc(x, 4) + x.median()

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Stranger()

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(ConversionError, match="2 operators") as error:
        make(Outer(), "x:float32[8]")
    for part in ("aten::histc", "aten::median", "inner (Stranger)", "test_executorch.py:"):
        assert part in error.value.message
    assert "bins' edges" in error.value.hint


def test_kernels_of_ones_own_runtime_can_be_named(make):
    class Histogram(nn.Module):
        def forward(self, x):
            return torch.histc(x, 4)

    artifact = make(Histogram(), "x:float32[8]=0..1", custom_kernels="aten::histc.out", verify=True)
    assert artifact.parity.verified == "structure"
    assert "aten::histc.out" in artifact.parity.reason


def test_operators_that_others_can_stand_for(make):
    class Sorted(nn.Module):
        def forward(self, x):
            values, places = x.sort(-1, descending=True)
            return values.round(decimals=1), places, x.argsort(0)

    x = torch.randn(4, 9)
    artifact = make(Sorted(), "x:float32[4,9]")
    for got, want in zip(answers(artifact, x=x.numpy()).values(), Sorted()(x), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_branches_with_layers_inside(make):
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return torch.cond(x.sum() > 0, self.up, self.down, (x,))

    module = Branch()
    artifact = make(module, "x:float32[2,3]")
    for sign in (1, -1):
        x = sign * torch.ones(2, 3)
        np.testing.assert_allclose(answers(artifact, x=x.numpy())["output"], module(x).detach(), atol=1e-6)


def test_three_dims_of_convolution_are_refused(make):
    with pytest.raises(ConversionError, match="three dims"):
        make(nn.Conv3d(1, 2, 3), "input:float32[1,1,5,5,5]")


# --------------------------------------------------------------------------------------- state and files


def test_state_begins_as_it_was_and_is_kept_between_calls(make):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.full((2,), 3.0))

        def forward(self, x):
            self.count.add_(1)
            return x * self.count

    artifact = make(Counter(), "x:float32[2]", verify=True)
    x = {"x": np.ones(2, np.float32)}
    for _ in range(2):
        with api.run(artifact.path) as session:
            assert [float(session(x)["output"][0]) for _ in range(3)] == [4, 5, 6]


@pytest.mark.parametrize(("damage", "said"), [(b"not a program" * 20, "identifier"), (b"", "offset")])
def test_a_damaged_file_is_a_runtime_failure(make, damage, said, capfd):
    artifact = make(nn.Linear(3, 2), "input:float32[1,3]")
    artifact.entry_path.write_bytes(damage)
    from modelexport_executorch import session

    with pytest.raises(RuntimeFailure, match=said):
        session.load(artifact.entry_path)
    assert capfd.readouterr().err == ""


def test_a_bundle_is_checked_by_the_runtime(cnn):
    from modelexport_executorch import session

    native = session.runtime()
    bundle = native._load_bundled_program_from_buffer((cnn.path / "model.bpte").read_bytes())
    for index, _ in enumerate(cnn.details["bundle"]["cases"]):
        bundle.verify_result_with_bundled_expected_output("forward", index, 1e-4, 1e-5)
    with pytest.raises(RuntimeError):
        bundle.verify_result_with_bundled_expected_output("forward", 99, 1e-4, 1e-5)


def test_an_etrecord_is_read_back(cnn):
    from executorch.devtools import parse_etrecord

    record = parse_etrecord(str(cnn.path / "source/etrecord.bin"))
    assert record.edge_dialect_program is not None


def test_threads_are_the_pools(cnn):
    with api.run(cnn.path, {"threads": "1"}) as session:
        assert session.details["threads"] == 1


def test_an_existing_program_is_a_source(cnn, tmp_path):
    made = tmp_path / "theirs.pte"
    made.write_bytes(cnn.entry_path.read_bytes())
    (artifact,) = modelexport.export(
        made, "executorch", tmp_path / "out", inputs=["picture:float32[batch=1..64,3,16,16]"], verify=False
    )
    assert artifact.entry_path.read_bytes() == made.read_bytes()
    image = np.random.default_rng(1).standard_normal((5, 3, 16, 16)).astype(np.float32)
    (want,) = answers(cnn, image=image).values()
    np.testing.assert_array_equal(answers(artifact, picture=image)["output_0"], want)
