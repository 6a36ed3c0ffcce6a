"""Exports through ExecuTorch: delegates, dims, what is refused, and what is said of a program."""

import os
import subprocess
import sys

import numpy as np
import pytest
from modelexport import api
from modelexport.errors import ConversionError, InputError, OptionError

# --------------------------------------------------------------------------------------- dims


def test_a_batch_keeps_every_size(cnn, nets, torch, answers):
    """PyTorch chooses its convolutions by batch size, which left ExecuTorch with 2 to 15."""
    image = np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32)
    (output,) = answers(cnn, image=image).values()
    with torch.no_grad():
        expected = nets.Cnn().eval()(torch.from_numpy(image))
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_open_dims_get_a_bound(make, torch):
    artifact = make(torch.nn.Linear(3, 2), "input:float32[rows,3]", bound=40)
    assert artifact.details["bounds"] == {"rows": 40}
    assert artifact.notes[0] == "rows has no upper bound, and memory is planned for one: it is 40 (-k bound=…)"
    with api.run(artifact.path) as session:
        assert session({"input": np.ones((40, 3), np.float32)})["output"].shape == (40, 2)
        with pytest.raises(InputError, match=r"rows.*40"):
            session({"input": np.ones((41, 3), np.float32)})


def test_a_bound_below_the_least_size_is_refused(make, torch):
    with pytest.raises(OptionError, match="dim rows begins at 9, above bound=8"):
        make(torch.nn.Linear(3, 2), "input:float32[rows=9..,3]", bound=8)


def test_reshapes_with_two_dynamic_dims_stay_on_the_cpu(make, nets, torch, answers):
    """XNNPACK reshapes with one; its partitioner takes them, and its serializer then fails."""
    module = nets.Lines()
    x = torch.randn(3, 4, 7)
    artifact = make(module, "x:float32[batch=1..4,4,length=2..9]")
    (output,) = answers(artifact, x=x.numpy()).values()
    np.testing.assert_allclose(output, module(x).detach(), atol=1e-5)


# --------------------------------------------------------------------------------------- delegates


def test_xnnpack_takes_a_cnn(cnn):
    assert list(cnn.details["delegates"]) == ["XnnpackBackend"]
    assert cnn.details["delegated"]["share"] == 1.0
    assert cnn.details["delegated_operators"]["aten.convolution"] == 2
    assert sum(cnn.details["memory"]) >= 64 * 3 * 16 * 16 * 4  # its input at the largest batch


def test_the_kernels_are_those_of_the_file(make, nets, image):
    from executorch.codegen.tools.selective_build import _get_program_from_buffer, _get_program_operators

    artifact = make(nets.Cnn(), image, backend="portable")
    program = _get_program_from_buffer(artifact.entry_path.read_bytes())
    assert artifact.details["kernels"] == sorted(_get_program_operators(program))
    assert artifact.details["delegated"]["share"] == 0
    assert artifact.details["operators"]["aten.convolution"] == 2


@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("vulkan", "VulkanBackend"),
        ("coreml", "CoreMLBackend"),
        ("webgpu", "VulkanBackend"),
        ("native", "NativeBackend"),
    ],
)
def test_other_delegates_are_lowered_to_and_not_run(make, nets, backend, runtime):
    artifact = make(nets.Cnn(), "image:float32[2,3,16,16]", backend=backend, verify=True)
    assert runtime in artifact.details["delegates"]
    assert artifact.parity.verified == "structure"
    assert runtime in artifact.parity.reason


def test_lowering_to_coreml_imports_no_tensorflow_and_prints_nothing(nets, tmp_path):
    """coremltools would import TensorFlow, which takes seconds and writes to the terminal past Python."""
    script = (
        "import sys, modelexport\n"
        "modelexport.export(sys.argv[1] + ':Cnn', 'executorch', sys.argv[2], options={'backend': 'coreml'},\n"
        "                   inputs=['image:float32[2,3,16,16]'], verify=False)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script, nets.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_first_backend_leaves_goes_to_the_next(make, torch):
    table = torch.nn.Sequential(torch.nn.Embedding(10, 8), torch.nn.Linear(8, 4))
    artifact = make(table, "input:int64[2,5]=0..9", backend="xnnpack,vulkan")
    assert set(artifact.details["delegates"]) == {"XnnpackBackend", "VulkanBackend"}


# --------------------------------------------------------------------------------------- operators


def test_operators_without_a_kernel_are_listed_at_once(make, nets):
    with pytest.raises(ConversionError, match="2 operators have no kernel in ExecuTorch's runtime") as error:
        make(nets.Outer(), "x:float32[8]")
    for part in ("aten::histc", "aten::median", "inner (Stranger)", "nets.py:"):
        assert part in error.value.message
    assert "bins' edges" in error.value.hint


def test_kernels_of_ones_own_runtime_can_be_named(make, nets):
    with pytest.raises(OptionError, match=r"custom-kernels=my::gone\.out matches no operator of the program"):
        make(nets.Histogram(), "x:float32[8]=0..1", custom_kernels="aten::histc.out,my::gone.out")
    artifact = make(nets.Histogram(), "x:float32[8]=0..1", custom_kernels="aten::histc.out", verify=True)
    assert artifact.parity.verified == "structure"
    assert "aten::histc.out" in artifact.parity.reason


def test_operators_that_others_can_stand_for(make, nets, torch, answers):
    x = torch.randn(4, 9)
    artifact = make(nets.Sorted(), "x:float32[4,9]")
    for output, expected in zip(answers(artifact, x=x.numpy()).values(), nets.Sorted()(x), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-6)


def test_branches_with_layers_inside(make, nets, torch, answers):
    module = nets.Branch()
    artifact = make(module, "x:float32[2,3]")
    for sign in (1, -1):
        x = sign * torch.ones(2, 3)
        np.testing.assert_allclose(answers(artifact, x=x.numpy())["output"], module(x).detach(), atol=1e-6)


def test_three_dims_of_convolution_are_refused(make, torch):
    with pytest.raises(ConversionError, match="three dims"):
        make(torch.nn.Conv3d(1, 2, 3), "input:float32[1,1,5,5,5]")


def test_complex_numbers_are_refused(make, nets):
    with pytest.raises(ConversionError, match="input 'x' is complex64, which ExecuTorch doesn't take or give"):
        make(nets.Complex(), "x:complex64[4]")


# --------------------------------------------------------------------------------------- what stands beside


def test_a_bundle_is_checked_by_the_runtime(cnn):
    from modelexport_executorch import backend

    native = backend.runtime()
    bundle = native._load_bundled_program_from_buffer((cnn.path / "model.bpte").read_bytes())
    for index, _ in enumerate(cnn.details["bundle"]["cases"]):
        bundle.verify_result_with_bundled_expected_output("forward", index, 1e-4, 1e-5)
    with pytest.raises(RuntimeError) as error:
        bundle.verify_result_with_bundled_expected_output("forward", 99, 1e-4, 1e-5)
    assert str(error.value)


def test_an_etrecord_is_read_back(cnn):
    from executorch.devtools import parse_etrecord

    record = parse_etrecord(str(cnn.path / "source/etrecord.bin"))
    assert record.edge_dialect_program is not None


def test_it_says_what_it_does(make, torch):
    events = []
    make(
        torch.nn.Linear(3, 2),
        "input:float32[rows,3]",
        bundle=True,
        progress=lambda event: events.append(str(event)),
    )
    for line in ("capture again with rows bounded", "lower for xnnpack", "plan the memory"):
        assert line in events
    assert any(line.startswith("answer the cases of the bundle: 1 of") for line in events)
