"""What PyTorch says at length is repeated in a line that names the user's own."""

from modelexport_torchscript import operators

ERROR = RuntimeError("""
Unknown builtin op: aten::foo.

  File "/torch/nn/functional.py", line 3
        return y
               ~ <--- HERE
'Net.forward' is being compiled since it was called from
  File "/me/net.py", line 12
    def forward(self, x):
        return helper(x)
               ~~~~~~ <--- HERE
  File "code/__torch__/net.py", line 4
    return x
           ~ <--- HERE
""")


def test_the_first_and_the_last_underlined_line():
    assert operators.underlined(ERROR) == "/torch/nn/functional.py:3 (return y)"
    assert operators.underlined(ERROR, last=True) == "/me/net.py:12 (return helper(x))"
    assert operators.underlined(RuntimeError("no line is named")) == ""


def test_a_script_that_fails_says_why_and_where():
    error = operators.unscriptable(ERROR)
    assert error.message == (
        "torch.jit.script can't compile the model at /torch/nn/functional.py:3 (return y): "
        "Unknown builtin op: aten::foo."
    )
    assert "mode=trace" in error.hint


def test_a_trace_that_fails_says_what_was_raised():
    message = operators.untraceable(ValueError("too " + "long " * 100)).message
    assert message.startswith("torch.jit.trace can't follow the model: ValueError: too long")
    assert message.endswith(" …")
    assert len(message) < 400


def test_a_call_that_fails_says_its_last_line():
    assert operators.failed(RuntimeError("the trace\n  of it\nshapes differ\n")).message == (
        "TorchScript failed: shapes differ"
    )
    assert operators.failed(KeyError()).message == "TorchScript failed: KeyError"
