"""Recurrent layers, step by step. Sequences come first: (steps, batch, features)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .registry import Tensor, operator

_ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}


@operator("lstm")
def lstm(
    x: Tensor, initial_h: Tensor, initial_c: Tensor, weight_ih: Tensor, weight_hh: Tensor, direction: str,
    output_sequence: Tensor, recurrent_activation: str, cell_activation: str, activation: str,
    bias: Tensor | None = None, peephole: Tensor | None = None, weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None, bias_back: Tensor | None = None, peephole_back: Tensor | None = None,
    clip: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gates lie in the order input, forget, output, cell. Both directions stand side by side in the states."""
    functions = (recurrent_activation, cell_activation, activation)
    both = direction == "bidirectional"
    starts = zip(initial_h.chunk(2, -1), initial_c.chunk(2, -1), strict=True) if both else [(initial_h, initial_c)]
    weights = [(weight_ih, weight_hh, bias, peephole), (weight_ih_back, weight_hh_back, bias_back, peephole_back)]
    passes = []
    for index, start in enumerate(starts):
        backward = direction == "reverse" or index == 1
        passes.append(_lstm_pass(x, start, weights[index], functions, clip, backward))
    steps, hidden, cell = (torch.cat(parts, -1) for parts in zip(*passes, strict=True))
    return (steps if output_sequence else hidden.unsqueeze(0)), hidden, cell


def _lstm_pass(
    x: Tensor, start: tuple[Tensor, Tensor], weights: tuple[Tensor, ...], functions: tuple[str, str, str],
    clip: Tensor | None, backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    gate, candidate, output = (_ACTIVATIONS[name] for name in functions)
    weight_ih, weight_hh, bias, peephole = weights
    hidden, cell = start
    peep = peephole.chunk(3) if peephole is not None else (0, 0, 0)
    projected = F.linear(x, weight_ih, bias)
    steps = []
    for step in range(x.shape[0] - 1, -1, -1) if backward else range(x.shape[0]):
        i, f, o, z = (projected[step] + F.linear(hidden, weight_hh)).chunk(4, -1)
        i, f = gate(i + peep[0] * cell), gate(f + peep[1] * cell)
        z = candidate(z)
        cell = f * cell + i * (z if clip is None else z.clamp(-clip, clip))
        hidden = gate(o + peep[2] * cell) * output(cell)
        steps.append(hidden)
    return torch.stack(steps[::-1] if backward else steps), hidden, cell


@operator("gru")
def gru(
    x: Tensor, initial_h: Tensor, weight_ih: Tensor, weight_hh: Tensor, direction: str, output_sequence: Tensor,
    recurrent_activation: str, activation: str, bias: Tensor | None = None, reset_after: Tensor | None = None,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gates lie in the order reset, output, update."""
    gate, output = _ACTIVATIONS[recurrent_activation], _ACTIVATIONS[activation]
    projected, hidden, steps = F.linear(x, weight_ih, input_bias), initial_h, []
    size = hidden.shape[-1]
    biases = torch.zeros(3 * size) if bias is None else bias
    backward = direction == "reverse"
    for step in range(x.shape[0] - 1, -1, -1) if backward else range(x.shape[0]):
        own = F.linear(hidden, weight_hh)
        r = gate(projected[step, :, :size] + own[:, :size] + biases[:size])
        z = gate(projected[step, :, 2 * size :] + own[:, 2 * size :] + biases[2 * size :])
        mixed, shift = own[:, size : 2 * size], biases[size : 2 * size]
        if reset_after is None or reset_after:
            new = r * (mixed + shift) if input_bias is not None else r * mixed + shift
        else:
            new = F.linear(r * hidden, weight_hh[size : 2 * size]) + shift
        o = output(projected[step, :, size : 2 * size] + new)
        hidden = (1 - z) * o + z * hidden
        steps.append(hidden)
    sequence = torch.stack(steps[::-1] if backward else steps)
    return (sequence if output_sequence else hidden.unsqueeze(0)), hidden


@operator("rnn")
def rnn(
    x: Tensor, initial_h: Tensor, weight_ih: Tensor, weight_hh: Tensor, direction: str, output_sequence: Tensor,
    activation: str, bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    projected, hidden, steps = F.linear(x, weight_ih, bias), initial_h, []
    backward = direction == "reverse"
    for step in range(x.shape[0] - 1, -1, -1) if backward else range(x.shape[0]):
        hidden = _ACTIVATIONS[activation](projected[step] + F.linear(hidden, weight_hh))
        steps.append(hidden)
    sequence = torch.stack(steps[::-1] if backward else steps)
    return (sequence if output_sequence else hidden.unsqueeze(0)), hidden
