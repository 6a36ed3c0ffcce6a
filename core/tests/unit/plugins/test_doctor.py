"""What is installed, what a machine lacks, and plugins that are broken: each breaks nothing but itself."""

import modelexport
import pytest
from modelexport.plugins import manager

from core.tests.conftest import distribution, installed


@pytest.mark.usefixtures("toys")
def test_targets_as_json(mx):
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["captured"] == {
        "name": "captured",
        "status": "ready",
        "verbs": "export, run",
        "note": "torch.export program, run by PyTorch",
        "distribution": "modelexport",
        "version": modelexport.__version__,
    }
    assert rows["tape"]["verbs"] == "export, quantize, run, benchmark"
    assert (rows["tape"]["distribution"], rows["tape"]["version"]) == ("toy-tape", "1.0")


@pytest.mark.usefixtures("toys")
def test_targets_says_what_this_machine_lacks(mx):
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["stamper"]["status"] == "ahead of time"
    assert rows["stamper"]["verbs"] == "export, quantize"
    assert "builds ahead of time; cannot run here: no anvil" in rows["stamper"]["note"]
    assert rows["tape"]["status"] == "ready"
    assert "no anvil" in mx("targets").out


@pytest.mark.usefixtures("toys")
def test_a_machine_hook_that_fails_is_a_broken_plugin(mx, monkeypatch):
    plugin = manager.target("stamper")

    def failing():
        raise OSError("no such device")

    monkeypatch.setattr(plugin.hook.mx_machine.get_hookimpls()[0], "function", failing)
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["stamper"]["status"] == "broken"
    assert "no such device" in rows["stamper"]["note"]


def test_doctor_in_order(mx):
    result = mx("doctor", "--json")
    assert result.code == 0
    assert set(result.json) == {"environment", "targets", "sources", "extensions", "commands"}
    assert result.json["environment"]["modelexport"] == modelexport.__version__


# --------------------------------------------------------------------------------------- broken plugins

TARGET = """
from modelexport import Build, Session, Target, hookimpl


@hookimpl
def mx_target():
    return Target(name={name!r}, summary="a target of a test")
"""

#: entry point → its module's code, and what `mx targets` must say about it
BROKEN = {
    "raises": ("import torch_for_gameboy\n", "torch_for_gameboy"),
    "syntax": ("def mx_target(:\n", "SyntaxError"),
    "exits": ("raise SystemExit('buy a licence')\n", "buy a licence"),
    "misspelt": (
        TARGET.format(name="misspelt") + "\n\n@hookimpl\ndef mx_exprot(source, out, options):\n    pass\n",
        "mx_exprot",
    ),
    "unmarked": (
        TARGET.format(name="unmarked") + "\n\ndef mx_run(artifact, options):\n    pass\n",
        "mx_run lacks the",
    ),
    "renamed": (TARGET.format(name="another"), "'another'"),
    "parameter": (TARGET.format(name="parameter") + "\n\n@hookimpl\ndef mx_run(model):\n    pass\n", "model"),
    "silent": ("from modelexport import hookimpl\n", "returns no modelexport.Target"),
    "refuses": (TARGET.format(name="x").replace("return Target", "raise ValueError('no') #"), "ValueError: no"),
    "attribute": (TARGET.format(name="attribute"), "no_such_object"),
}


@pytest.fixture(scope="module")
def junk(tmp_path_factory):
    """A folder with a plugin of every broken kind, beside good ones."""
    site = tmp_path_factory.mktemp("broken")
    for name, (code, _) in BROKEN.items():
        (site / f"broken_{name}.py").write_text(code)
        suffix = ":no_such_object" if name == "attribute" else ""
        distribution(site, f"broken-{name}", f"[mx.targets]\n{name} = broken_{name}{suffix}\n")
    for name in ("fine", "twin"):
        (site / f"{name}.py").write_text(TARGET.format(name=name))
    distribution(site, "fine", "[mx.targets]\nfine = fine\n")
    distribution(site, "twin-one", "[mx.targets]\ntwin = twin\n")
    distribution(site, "twin-two", "[mx.targets]\ntwin = twin\n")
    distribution(site, "broken-source", "[mx.sources]\nbadsource = broken_raises\n")
    distribution(site, "broken-extension", "[mx.extensions]\nbadextension = broken_raises\n")
    return site


@pytest.fixture
def broken(toys, junk):
    """They are installed, and the toys beside them, while a test runs."""
    with installed(junk):
        yield


@pytest.mark.usefixtures("broken")
def test_targets_lists_each_broken_plugin_with_its_owner_and_error(mx):
    listed = mx("targets", "--json")
    assert listed.code == 0, listed.err
    rows = {row["name"]: row for row in listed.json["targets"]}
    for name, (_, fact) in BROKEN.items():
        assert rows[name]["status"] == "broken", rows[name]
        assert fact in rows[name]["note"], rows[name]
        assert f"broken-{name}" in rows[name]["note"]
        assert (rows[name]["distribution"], rows[name]["version"]) == (f"broken-{name}", "1.0")
    assert rows["twin"]["status"] == "broken"
    assert "twin-one and twin-two" in rows["twin"]["note"]
    assert (rows["fine"]["status"], rows["captured"]["status"]) == ("ready", "ready")


@pytest.mark.usefixtures("broken")
def test_targets_as_a_table_shows_them_in_one_line_each(mx):
    done = mx("targets")
    assert done.code == 0
    for name, (_, fact) in BROKEN.items():
        (line,) = (line for line in done.out.splitlines() if line.split()[:1] == [name])
        assert fact in line
    assert "Traceback" not in done.out + done.err


@pytest.mark.usefixtures("broken")
def test_doctor_ends_with_1_and_names_every_fault(mx):
    done = mx("doctor", "--json")
    assert done.code == 1
    faulty = {row["name"] for group in ("targets", "sources", "extensions") for row in done.json[group]
              if row["status"] == "broken"}  # fmt: skip
    assert faulty == {*BROKEN, "twin", "badsource", "badextension"}


@pytest.mark.usefixtures("broken")
def test_everything_else_works_beside_broken_plugins(mx, nets, tmp_path):
    exported = mx("export", nets("two", "two"), "-t", "tape", "-o", tmp_path)
    assert exported.code == 0, exported.err
    assert mx("verify", tmp_path / "two.tape").code == 0
    done = mx("run", tmp_path / "two.tape", "--input", "x=1", "--input", "ids=1", "--json")
    assert done.code == 0, done.err
    assert len(done.json["output"][0]) == 4


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("name", [*BROKEN, "twin"])
def test_asking_for_a_broken_target_is_one_line(mx, nets, tmp_path, name):
    done = mx("export", nets("two", "two"), "-t", name, "-o", tmp_path / "out")
    assert done.code == 5, done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("warning: extension skipped")]
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert "uninstall" in lines[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("broken")
def test_a_target_that_can_not_export_says_what_it_can(mx, nets):
    done = mx("export", nets("two", "two"), "-t", "fine")
    assert done.code == 5
    assert "target 'fine' can't export" in done.err


def test_entry_points_that_are_no_text_break_nothing(mx, tmp_path):
    distribution(tmp_path, "odd", "")
    (tmp_path / "odd-1.0.dist-info" / "entry_points.txt").write_bytes(b"[mx.targets]\n\xff\xfe = nothing\n")
    with installed(tmp_path):
        done = mx("targets", "--json")
    assert done.code == 0, done.err
    rows = {row["distribution"]: row for row in done.json["targets"]}
    assert (rows["odd"]["status"], rows["modelexport"]["status"]) == ("broken", "ready")


def test_a_plugin_for_a_newer_core_is_listed_as_broken(mx, tmp_path):
    distribution(tmp_path, "late", "[mx.targets]\nlate = late_target\n",
                 **{"Requires-Dist": "modelexport>=99.0,<100"})  # fmt: skip
    (tmp_path / "late_target.py").write_text("raise SystemExit('never imported')\n")
    with installed(tmp_path):
        row = next(line for line in mx("targets").out.splitlines() if line.startswith("late"))
    assert "broken" in row
    assert "modelexport 99.0" in row
    assert "pip install -U modelexport" in row
