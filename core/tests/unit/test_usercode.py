"""Code of the user's, as `file.py:name` names it."""

import os
import sys

from modelexport.usercode import import_object


def test_a_file_that_was_changed_within_a_second_is_read_again(tmp_path, monkeypatch):
    """Python would take what it compiled of a file as old and as long for the file's."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "net.py"
    for seed in (3, 4):
        file.write_text(f"SEED = {seed}\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert import_object(f"{file}:SEED") == seed
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_errors_name_the_whole_path_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text("def net(): pass\n")
    monkeypatch.chdir(tmp_path)
    assert import_object("net.py:net").__code__.co_filename == str(tmp_path / "net.py")
