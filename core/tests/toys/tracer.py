"""A naive exporter that people really write: torch.jit.trace at one size, nothing checked."""

from modelexport import Build, Session, Target, hookimpl


@hookimpl
def mx_target():
    return Target(name="tracer", summary="torch.jit.trace at the smallest sizes", consumes=("module",))


@hookimpl
def mx_export(source, out, options):
    import warnings

    import torch

    sizes = {dim.name: dim.min for spec in source.specs for dim in spec.dims}
    inputs = [
        torch.rand([sizes.get(getattr(size, "name", ""), size) for size in spec.shape]) for spec in source.specs
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(source.module, inputs, check_trace=False).save(out / "model.pt")
    return Build("model.pt", tools=("torch",))


@hookimpl
def mx_run(artifact, options):
    import torch

    module = torch.jit.load(artifact.entry_path)
    names = [spec.name for spec in artifact.outputs]

    def call(inputs):
        with torch.no_grad():
            outputs = module(*[torch.from_numpy(inputs[spec.name]) for spec in artifact.inputs])
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return Session(call, artifact.inputs, artifact.outputs)
