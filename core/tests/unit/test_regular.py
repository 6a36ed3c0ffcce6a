import os
import socket

import pytest
from modelexport.errors import ArtifactError, InputError
from modelexport.regular import check_regular, open_regular


def test_a_regular_file_is_read(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    with open_regular(file, limit=3) as stream:
        assert stream.read() == b"abc"
    assert check_regular(file, limit=3) == 3


def fifo(path):
    os.mkfifo(path)


def circle(path):
    path.symlink_to(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def large(path):
    path.write_bytes(b"12345")


@pytest.mark.parametrize("opened", [open_regular, check_regular])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fifo, "is a FIFO"),
        (circle, "leads round in circles"),
        (listening, "socket|No such device"),
        (device, "is a device"),
        (large, "has 5 bytes, more than the 4"),
        (os.mkdir, "is a folder"),
        (lambda path: None, "no file"),
    ],
)
def test_what_is_none_is_refused_at_once(tmp_path, opened, make, message):
    path = tmp_path / "it"
    make(path)
    with pytest.raises(ArtifactError, match=message):
        opened(path, limit=4, kind=ArtifactError)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a\ud800b"])
def test_a_name_that_can_be_no_files_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"can't read|no file"):
        check_regular(tmp_path / name)
