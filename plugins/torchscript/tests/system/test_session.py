"""Sessions: whose memory inputs and outputs are, and what is said when the model fails."""

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import CannotRunHere, InputError, RuntimeFailure


def test_a_session_leaves_inputs_alone_and_gives_outputs_away(export, rows, agree):
    x, first = rows.copy(), None
    with mx.run(export("in_place").path) as session:
        agree(session({"x": x}), {"output": rows + 1})
        np.testing.assert_array_equal(x, rows)
    with mx.run(export("same").path) as session:
        first = session({"x": x})["output"]
        x += 1
        np.testing.assert_array_equal(first, rows)
    with mx.run(export("counter").path) as session:
        first = session({"x": rows})["output"].copy()
        held = session({"x": rows})["output"]
        np.testing.assert_allclose(held, 2 * first, atol=1e-6)
        session({"x": rows})
        np.testing.assert_allclose(held, 2 * first, atol=1e-6)


def test_a_session_takes_any_layout_of_an_array(export, nets, rows, eager, agree):
    source = nets.source("classifier")
    frozen = rows.copy()
    frozen.flags.writeable = False
    with mx.run(export("classifier").path, {"threads": 1}) as session:
        assert session.details["threads"] == 1
        for x in (rows[::-1], np.asfortranarray(rows), np.repeat(rows, 2, axis=1)[:, ::2], frozen):
            agree(session({"x": x}), eager(source, x=x))
    with pytest.raises(InputError, match="closed"):
        session({"x": rows})


def test_what_fails_in_the_model_names_its_line(export, nets, rows, agree):
    artifact = export("picky", "script")
    with mx.run(artifact.path) as session:
        agree(session({"x": rows}), {"output": rows})
        with pytest.raises(RuntimeFailure, match=rf"nets\.py:{nets.line_of('raise ValueError')} .*: .*too large"):
            session({"x": rows * 1e6})


def test_a_gpu_that_is_not_there(export, torch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(CannotRunHere, match="CUDA"):
        mx.run(export("classifier").path, {"device": "cuda"})
