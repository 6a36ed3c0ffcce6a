"""Benchmarks: the figures mean what their names say, and each contestant has a process of its own."""

import json
import os
import shutil
import time

import modelexport
import numpy as np
import pytest
from modelexport.bench import runner
from modelexport.errors import SourceError

pytestmark = pytest.mark.usefixtures("toys")

INPUTS = ["x:float32[batch=1..64,64]"]


@pytest.fixture(scope="module")
def artifact(toys, nets, tmp_path_factory):
    (made,) = modelexport.export(nets("timed", "line"), "tape", tmp_path_factory.mktemp("timed"), inputs=INPUTS)
    return made.path


@pytest.fixture(scope="module")
def twins(artifact):
    """The same artifact twice, the first one as baseline."""
    twin = artifact.with_name("twin.tape")
    shutil.copytree(artifact, twin)
    return modelexport.benchmark([artifact, twin], baseline=artifact, runs=50, seconds=1.0, threads=1)


@pytest.fixture(scope="module")
def against_eager(artifact, nets):
    return modelexport.benchmark(artifact, baseline=nets("timed", "sleepy"), runs=20, seconds=0.3, threads=1)


def test_percentiles_are_in_order_and_agree_with_the_mean(twins):
    assert len(twins.figures) == 2
    for figures in twins.figures:
        assert 0 < figures.p50_ms <= figures.p90_ms <= figures.p99_ms < 1000
        assert figures.p50_ms / 5 < figures.mean_ms <= figures.p99_ms * 5
        assert figures.runs >= 50
        assert figures.runs * figures.mean_ms >= 1000  # a second of calls, as asked
        assert figures.throughput == pytest.approx(1e3 / figures.mean_ms)
        assert figures.load_ms > 0


def test_a_model_is_as_fast_as_itself(twins):
    first, second = twins.figures
    assert twins.baseline == first.name
    assert (first.ratio, first.ratio_low, first.ratio_high) == (1.0, 1.0, 1.0)
    assert 0.7 <= second.ratio <= 1.4
    assert second.ratio_low <= second.ratio <= second.ratio_high


def test_the_baseline_is_the_source_itself_run_eagerly(against_eager, nets, artifact):
    eager, exported = against_eager.figures
    assert against_eager.baseline == eager.name
    assert eager.name.endswith("timed.py:sleepy (PyTorch eager)")
    assert exported.name == str(artifact)
    assert eager.file_size is None
    assert eager.ratio == 1.0
    assert eager.p50_ms >= 5  # it sleeps for 5 ms, and its copy does not
    assert exported.p50_ms < 4
    assert exported.ratio < 0.8
    assert exported.file_size == modelexport.load(artifact).size


def test_each_contestant_has_memory_of_its_own(against_eager, artifact, nets):
    """What NumPy takes, PyTorch's own, and a model that needs 300 MB more: the parent's peak is in none."""
    eager, exported = against_eager.figures
    parent = runner.peak_rss()
    assert 15e6 < exported.peak_rss < 150e6 < eager.peak_rss
    assert exported.peak_rss < parent / 2
    report = modelexport.benchmark(artifact, baseline=nets("timed", "hoarder"), runs=2, seconds=0, threads=1)
    assert report.figures[0].peak_rss > eager.peak_rss + 250e6
    assert report.figures[1].peak_rss == pytest.approx(exported.peak_rss, rel=0.2)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_pinned(artifact, nets, tmp_path, monkeypatch, threads):
    monkeypatch.setenv("BENCH_LOG", str(tmp_path / "log.json"))
    report = modelexport.benchmark(artifact, baseline=nets("timed", "logged"), runs=2, seconds=0, threads=threads)
    said = json.loads((tmp_path / "log.json").read_text())
    assert (said["threads"], said["omp"]) == (threads, str(threads))
    assert said["pid"] != os.getpid()
    assert not said["training"]
    assert not said["grad"]
    assert report.threads == threads
    assert report.figures[1].details["threads"] == threads


def test_an_option_of_the_runtime_is_passed_on(artifact):
    options = {"devices": "abacus,cpu", "threads": 2}
    (figures,) = modelexport.benchmark(artifact, runs=1, seconds=0, threads=1, options=options).figures
    assert (figures.details["threads"], figures.details["devices"]) == (2, ["abacus", "cpu"])


def test_dims_and_inputs(artifact, tmp_path):
    one = modelexport.benchmark(artifact, runs=200, seconds=0.1, threads=1)
    many = modelexport.benchmark(artifact, runs=200, seconds=0.1, threads=1, dims={"batch": 64})
    assert (one.dims, many.dims) == ({"batch": 1}, {"batch": 64})
    assert many.figures[0].throughput == pytest.approx(64e3 / many.figures[0].mean_ms)
    assert many.figures[0].p50_ms > one.figures[0].p50_ms
    np.savez(tmp_path / "in.npz", x=np.zeros((7, 64), np.float32))
    given = modelexport.benchmark(artifact, runs=1, seconds=0, input_file=tmp_path / "in.npz")
    assert given.dims == {"batch": 7}


def test_a_baseline_that_fails_to_load_is_said(artifact, nets):
    with pytest.raises(SourceError, match="there is no 'lime' in "):
        modelexport.benchmark(artifact, baseline=nets("timed", "lime"), runs=1, seconds=0)


def test_no_process_is_left_behind(artifact, nets, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_LOG", str(tmp_path / "log.json"))
    modelexport.benchmark(artifact, baseline=nets("timed", "logged"), runs=1, seconds=0)
    child = json.loads((tmp_path / "log.json").read_text())["pid"]
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} is still there")


def test_the_report_as_json(mx, artifact, nets):
    arguments = [
        "--baseline",
        nets("timed", "line"),
        "--runs",
        "3",
        "--seconds",
        "0",
        "--threads",
        "1",
        "--dim",
        "batch=4",
    ]
    result = mx("benchmark", artifact, *arguments, "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert set(report) == {"figures", "baseline", "threads", "dims", "turns", "environment"}
    assert report["baseline"].endswith("timed.py:line (PyTorch eager)")
    assert (report["threads"], report["dims"]) == (1, {"batch": 4})
    assert {"platform", "python", "cpu", "cores"} <= set(report["environment"])
    numbers = {"runs", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "throughput", "load_ms", "peak_rss", "ratio"}
    for figures in report["figures"]:
        assert set(figures) == {*numbers, "name", "file_size", "ratio_low", "ratio_high", "details"}
        assert all(figures[name] > 0 for name in numbers)


def test_the_report_as_a_table(mx, artifact, nets):
    shown = mx("benchmark", artifact, "--baseline", nets("timed", "line"), "--runs", "3", "--seconds", "0")
    assert (shown.code, shown.err) == (0, "")
    for heading in ("p50 ms", "p90 ms", "p99 ms", "samples/s", "load ms", "peak RSS", "size", "× baseline"):
        assert heading in shown.out
    assert "PyTorch eager" in shown.out
    assert "batch=1" in shown.out


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_as_a_second_baseline(artifact, nets):
    report = modelexport.benchmark(
        artifact, baseline=nets("timed", "line"), compile_baseline=True, runs=20, seconds=0.1
    )
    names = [figures.name for figures in report.figures]
    assert [name.partition(" (")[2] for name in names] == ["PyTorch eager)", "torch.compile)", ""]
    assert report.baseline == names[0]
    compiled = report.figures[1]
    assert compiled.p50_ms < 50  # compiling is over before the clock starts
    assert compiled.ratio > 0


def test_a_targets_own_figures_are_in_the_details(artifact):
    (figures,) = modelexport.benchmark([artifact], runs=3, seconds=0.0, threads=1).figures
    batch, rest = divmod(figures.details["values"], 64)
    assert batch >= 1
    assert rest == 0
