"""An exporter that folds a factor into the live weights, and says so: core must hand it a copy."""

from modelexport import Build, Session, Target, hookimpl


@hookimpl
def mx_target():
    return Target(name="mutator", summary="NumPy, after folding in place", consumes=("module",), mutates=True)


@hookimpl
def mx_export(source, out, options):
    import numpy as np

    linear = source.module.linear
    linear.weight.data.mul_(2)
    source.module.train()
    np.savez(out / "model.npz", weight=linear.weight.detach().numpy(), bias=linear.bias.detach().numpy())
    return Build("model.npz")


@hookimpl
def mx_run(artifact, options):
    import numpy as np

    with np.load(artifact.entry_path) as data:
        weight, bias = data["weight"] / 2, data["bias"]

    def call(inputs):
        scores = inputs["x"] @ weight.T + bias
        return {"scores": scores, "doubled": scores * 2 + 1}

    return Session(call, artifact.inputs, artifact.outputs)
