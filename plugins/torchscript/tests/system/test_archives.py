"""Archives that others wrote, made into artifacts."""

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import SourceError


def test_silero_as_its_authors_saved_it(export, torch, silero):
    """It keeps its state in plain attributes; every call must answer as theirs does, in a row."""
    inputs = ["x:float32[batch=1..8,512]=-1..1", "sr:int64[]=16000..16000"]
    artifact = export(str(silero), verify=True, inputs=inputs)
    assert artifact.parity.verified is True
    assert {"reset_states", "audio_forward"} <= set(artifact.details["methods"])
    assert artifact.entry_path.read_bytes() == silero.read_bytes()
    theirs = torch.jit.load(str(silero))
    sound = np.random.default_rng(0).uniform(-1, 1, (6, 3, 512)).astype(np.float32)
    with mx.run(artifact.path) as session, torch.inference_mode():
        for chunk in sound:
            got = session({"x": chunk, "sr": np.array(16000)})["output"]
            np.testing.assert_array_equal(got, theirs(torch.from_numpy(chunk), 16000).numpy())


def test_an_archive_in_training_mode_is_written_in_eval_mode(export, tmp_path, torch, nets, rows, eager, agree):
    module = torch.jit.script(nets.source("classifier").module.train())
    module.save(str(tmp_path / "mine.pt"))
    artifact = export(str(tmp_path / "mine.pt"), inputs=["input:float32[batch=1..4,6]"])
    assert "training mode" in artifact.notes[0]
    with mx.run(artifact.path) as session:
        agree(session({"input": rows}), eager(nets.source("classifier"), x=rows))


def test_scalar_arguments_of_an_archive(export, tmp_path, torch, nets, rows, agree):
    torch.jit.script(nets.module.Scalars()).save(str(tmp_path / "scalars.ts"))
    inputs = ["x:float32[n=1..4]", "by:float64[]=0.5..2", "plus:int64[]=-3..3", "on:bool[]"]
    artifact = export(str(tmp_path / "scalars.ts"), inputs=inputs)
    with mx.run(artifact.path) as session:
        got = session({"x": rows[0, :2], "by": np.array(0.5), "plus": np.array(3), "on": np.array(True)})
    agree(got, {"output": rows[0, :2] * 0.5 + 3})


def test_weights_are_told_from_archives(torch, nets, tmp_path):
    torch.save(nets.source("classifier").module.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(SourceError, match="holds weights, not a model"):
        mx.export(tmp_path / "weights.pt", "torchscript", tmp_path)
