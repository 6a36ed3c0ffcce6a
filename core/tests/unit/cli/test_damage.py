"""Every command that reads an artifact refuses a damaged one, or one that reaches outside its folder."""

import json
import shutil

import pytest

from core.tests.unit.cli.conftest import ARTIFACT, SOURCE, TARGET

pytestmark = pytest.mark.usefixtures("toys")

READERS = (["inspect"], ["verify"], ["run", "--input", "x=1"], ["benchmark"], ["export", "-t", "packer"])


def change(place, edit):
    file = place / "two.tape" / "manifest.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def flip_bit(place, name):
    file = place / "two.tape" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(place, name):
    file = place / "two.tape" / name
    file.write_bytes(file.read_bytes()[:-7])


def list_file(place, path):
    change(place, lambda data: data["files"].append({"path": path, "size": 1, "sha256": "0" * 64}))


def link_outside(place):
    (place / "two.tape" / "link").symlink_to(place / "notes.txt")
    list_file(place, "link")


def link_entry(place):
    model = place / "two.tape" / "model.tape"
    model.rename(place / "elsewhere.tape")
    model.symlink_to(place / "elsewhere.tape")


DAMAGES = {
    "truncated model": (
        lambda p: truncate(p, "model.tape"),
        ["model.tape is damaged", "bytes, the manifest says"],
    ),
    "flipped bit": (lambda p: flip_bit(p, "model.tape"), ["two.tape/model.tape is damaged", "sha256"]),
    "flipped bit in golden": (lambda p: flip_bit(p, "golden.npz"), ["two.tape/golden.npz is damaged", "sha256"]),
    "deleted model": (lambda p: (p / "two.tape/model.tape").unlink(), ["model.tape is missing"]),
    "deleted golden": (lambda p: (p / "two.tape/golden.npz").unlink(), ["golden.npz is missing"]),
    "deleted manifest": (lambda p: (p / "two.tape/manifest.json").unlink(), ["two.tape", "manifest.json"]),
    "newer schema": (
        lambda p: change(p, lambda d: d.update(schema=99)),
        ["schema 99", "reads up to", "pip install -U"],
    ),
    "no schema": (lambda p: change(p, lambda d: d.pop("schema")), ["manifest.json is damaged", "schema"]),
    "odd schema": (lambda p: change(p, lambda d: d.update(schema="one")), ["manifest.json", "'one'"]),
    "no inputs": (lambda p: change(p, lambda d: d.pop("inputs")), ["manifest.json is damaged", "inputs"]),
    "unknown dim": (lambda p: change(p, lambda d: d["dims"].clear()), ["manifest.json is damaged", "batch"]),
    "no JSON": (lambda p: (p / "two.tape/manifest.json").write_text("{]"), ["manifest.json is no valid JSON"]),
    "a list": (lambda p: (p / "two.tape/manifest.json").write_text("[]"), ["manifest.json is damaged"]),
    "empty manifest": (
        lambda p: (p / "two.tape/manifest.json").write_text(""),
        ["manifest.json is no valid JSON"],
    ),
    "binary manifest": (
        lambda p: (p / "two.tape/manifest.json").write_bytes(b"\xff\xfe\x00"),
        ["is no UTF-8 text"],
    ),
    "entry above": (lambda p: change(p, lambda d: d.update(entry="../notes.txt")), ["'../notes.txt'", "outside"]),
    "entry absolute": (
        lambda p: change(p, lambda d: d.update(entry=str(p / "notes.txt"))),
        ["notes.txt", "outside"],
    ),
    "entry empty": (lambda p: change(p, lambda d: d.update(entry="")), ["''", "outside"]),
    "entry no text": (lambda p: change(p, lambda d: d.update(entry=3)), ["manifest.json"]),
    "file above": (lambda p: list_file(p, "../notes.txt"), ["'../notes.txt'", "outside"]),
    "file far above": (lambda p: list_file(p, "a/../../notes.txt"), ["outside"]),
    "file absolute": (lambda p: list_file(p, "/etc/hostname"), ["'/etc/hostname'", "outside"]),
    "file with a drive": (lambda p: list_file(p, "C:/notes.txt"), ["'C:/notes.txt'", "outside"]),
    "file with backslashes": (lambda p: list_file(p, "..\\notes.txt"), ["notes.txt", "outside"]),
    "file by a link": (link_outside, ["'link'", "outside"]),
    "entry by a link": (link_entry, ["'model.tape'", "outside"]),
    "missing artifact": (lambda p: shutil.rmtree(p / "two.tape"), ["two.tape"]),
}


@pytest.mark.parametrize("row", DAMAGES, ids=lambda row: row.replace(" ", "-"))
def test_every_reader_refuses_a_damaged_artifact(refused, place, row):
    damage, facts = DAMAGES[row]
    damage(place)
    for command in READERS:
        unknown = row in ("deleted manifest", "missing artifact") and command[0] == "export"
        code = SOURCE if unknown else ARTIFACT
        refused([command[0], "@two.tape", *command[1:]], code, *([] if unknown else facts))


def test_an_artifact_of_a_target_that_is_not_installed(refused, place):
    change(place, lambda data: data.update(format="elsewhere"))
    for command in (["verify"], ["run", "--input", "x=1"], ["benchmark"]):
        refused([command[0], "@two.tape", *command[1:]], TARGET, "'elsewhere'")
