"""Sessions, against a CUDA and a TensorRT that are played by this machine's memory and ONNX Runtime.

No GPU is needed, and none is proven: what is tested is that every input reaches the engine and every output comes
back, whatever the sizes, and that all memory is released.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import modelexport
import numpy as np
import pytest
from modelexport.errors import CannotRunHere, InputError, OptionError, RuntimeFailure
from modelexport.gate import compare, golden
from modelexport_tensorrt import RunOptions, files, flavours, session

INPUTS = ["ids:int64[batch=1..8,length=1..16]=0..49", "scale:float32[batch=1..8,1]"]
PROFILES = "batch=1:1:8;length=1:4:8,batch=1:4:8;length=8:16:16"


@pytest.fixture(scope="module")
def artifact(nets, cuda, tmp_path_factory):
    folder, options = tmp_path_factory.mktemp("net"), {"profile": PROFILES}
    (made,) = modelexport.export(nets("embedding"), "tensorrt", folder, inputs=INPUTS, options=options)
    return made


@pytest.fixture
def gpu(artifact, players, trt, monkeypatch):
    """A machine with an sm86, played by this one."""
    import cuda.bindings
    from cuda.bindings import runtime

    if flavours.gpus():
        pytest.skip("this machine has a GPU")
    played = SimpleNamespace(cuda=players.Cuda(runtime))

    class Runtime:
        def __init__(self, logger):
            self.real = trt.Runtime(logger)

        def deserialize_cuda_engine(self, blob):
            assert blob == artifact.entry_path.read_bytes()
            played.engine = players.Engine(str(artifact.path / "source" / "model.onnx"), played.cuda)
            return played.engine

        def get_plugin_registry(self):
            return self.real.get_plugin_registry()

        def get_engine_validity(self, header):
            return self.real.get_engine_validity(header)

    names = {name: getattr(trt, name) for name in dir(trt)}
    monkeypatch.setattr(flavours.Flavour, "load", lambda self: SimpleNamespace(**{**names, "Runtime": Runtime}))
    monkeypatch.setattr(cuda.bindings, "runtime", played.cuda)
    monkeypatch.setattr(flavours, "gpus", lambda: ("sm86",))
    monkeypatch.setattr(flavours, "lacking", lambda: "")
    return played


def test_the_players_play_what_there_is(players, trt):
    for player, real in ((players.Context, trt.IExecutionContext), (players.Engine, trt.ICudaEngine)):
        assert [name for name in vars(player) if name[0] != "_" and not hasattr(real, name)] == []


def test_every_case_of_the_gate_comes_out_as_the_source_has_it(artifact, gpu):
    cases = golden.load(artifact.golden).cases
    with session.open_artifact(artifact, RunOptions()) as loaded:
        rows = compare.compare_all(loaded, cases, "float32", {})
        assert len(cases) >= 8
        assert [row.name for row in rows if not row.ok] == []
        assert gpu.engine.context.runs == 2 * len(cases)
        assert loaded.details["gpu"] == "sm86"
    assert gpu.cuda.memory == {}
    assert gpu.cuda.calls[-1] == "cudaStreamDestroy"


def test_the_profile_is_the_one_that_takes_the_sizes(artifact, gpu):
    with session.open_artifact(artifact, RunOptions()) as loaded:
        for length in (4, 16, 16, 8, 3):
            ids = np.arange(2 * length, dtype=np.int64).reshape(2, length) % 50
            hidden, _ = loaded({"ids": ids, "scale": np.ones((2, 1), np.float32)}).values()
            assert hidden.shape == (2, length, 4)
        assert gpu.engine.context.profiles == [1, 0]  # 8 is in both: the tighter one takes it
        with pytest.raises(InputError, match="length"):
            loaded({"ids": np.zeros((2, 17), np.int64), "scale": np.ones((2, 1), np.float32)})


def test_outputs_are_copies(artifact, gpu):
    one, other = (case.inputs for case in golden.load(artifact.golden).cases[:2])
    with session.open_artifact(artifact, RunOptions()) as loaded:
        first = loaded(one)
        kept = {name: array.copy() for name, array in first.items()}
        loaded(other)
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])


def test_full_tensorrt_replays_recorded_launches(artifact, gpu, monkeypatch):
    monkeypatch.setattr(flavours, "BY_NAME", {"tensorrt-rtx": flavours.Flavour("tensorrt", "tensorrt_rtx", "")})
    cases = golden.load(artifact.golden).cases
    with session.open_artifact(artifact, RunOptions(cuda_graph=True)) as loaded:
        rows = compare.compare_all(loaded, cases, "float32", {})
        assert all(row.ok for row in rows)
    launched, recorded = (gpu.cuda.calls.count(f"cuda{name}") for name in ("GraphLaunch", "StreamBeginCapture"))
    assert launched == 2 * len(cases)
    assert 1 <= recorded < launched
    assert gpu.cuda.calls.count("cudaGraphExecDestroy") == recorded
    assert gpu.cuda.memory == {}


def test_rtx_records_by_itself_and_keeps_what_it_compiled(artifact, gpu, trt, tmp_path):
    options = RunOptions(cuda_graph=True, runtime_cache=str(tmp_path / "cache"))
    with session.open_artifact(artifact, options):
        assert gpu.engine.config.cuda_graph_strategy == trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert (tmp_path / "cache").read_bytes() == b"compiled"


def test_the_benchmark_times_the_device(artifact, gpu):
    inputs = golden.load(artifact.golden).cases[0].inputs
    figures = session.benchmark(artifact, inputs, RunOptions())
    assert figures == {"device_p50_ms": 0.25, "device_p90_ms": 0.25}
    assert gpu.engine.context.runs == session.WARM_UP + session.RUNS
    assert gpu.cuda.memory == {}


def test_an_engine_that_does_not_load_leaves_nothing(artifact, gpu, players, monkeypatch):
    monkeypatch.setattr(players.Engine, "create_execution_context", lambda self, config=None: None)
    with pytest.raises(RuntimeFailure, match="execution context"):
        session.open_artifact(artifact, RunOptions())
    assert gpu.cuda.memory == {}
    assert gpu.cuda.calls[-1] == "cudaStreamDestroy"


def test_a_gpu_that_the_engine_is_not_for(artifact, gpu, monkeypatch):
    monkeypatch.setattr(flavours, "gpus", lambda: ("sm90",))
    with pytest.raises(CannotRunHere, match="sm80, sm86, sm89, sm120, sm121, and the GPU here is sm90"):
        session.open_artifact(artifact, RunOptions())
    with pytest.raises(OptionError, match="no GPU 1"):
        session.open_artifact(artifact, RunOptions(device=1))


def test_libraries_of_kernels_are_loaded(artifact, gpu, tmp_path):
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(OptionError, match=r"text\.so can't be loaded"):
        session.open_artifact(artifact, RunOptions(plugins=(str(tmp_path / "text.so"),)))
    assert gpu.cuda.memory == {}


def test_a_damaged_engine_is_told_with_and_without_a_gpu(artifact, gpu, monkeypatch, tmp_path):
    (tmp_path / files.FILE).write_bytes(b"\0" * artifact.details["bytes"])
    damaged = replace(artifact, path=tmp_path)
    for lacks in ("", "no NVIDIA driver"):
        monkeypatch.setattr(flavours, "lacking", lambda lacks=lacks: lacks)
        with pytest.raises(RuntimeFailure, match="damaged"):
            session.open_artifact(damaged, RunOptions())
    Path(tmp_path / files.FILE).write_bytes(artifact.entry_path.read_bytes()[:-1])
    with pytest.raises(RuntimeFailure, match="damaged"):
        session.open_artifact(damaged, RunOptions())
