"""Calibration data may be larger than memory."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

PEAK = """
import sys
from pathlib import Path
from modelexport.contract import Artifact, TensorSpec
from modelexport.toolkit import open_calibration
spec = TensorSpec.parse("x:float32[batch,3,128,128]")
found = open_calibration(Artifact(Path(), "toy", "m", (spec,), ()), sys.argv[1], samples=int(sys.argv[2]))
total = sum(float(sample["x"][0, 0, 0, 0]) for sample in found)
rows = sum(len(batch["x"]) for batch in found.batches(8))
found.fingerprint()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(total, rows, status["VmHWM"].split()[0])
"""


def peak(path, samples):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, str(samples)], capture_output=True, text=True, check=True
    )
    total, rows, kib = done.stdout.split()
    assert (float(total), int(rows)) == (sum(range(samples)), samples)
    return int(kib)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is in Linux's /proc")
@pytest.mark.parametrize("compression", ["stored", "deflated"])
def test_memory_does_not_grow_with_the_samples(tmp_path, compression):
    """197 MB of samples against 10 MB: the peak stays within 15 %."""
    path, kind = tmp_path / "a.npz", {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}[compression]
    with (
        zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (1000, 3, 128, 128)}
        np.lib.format.write_array_header_1_0(out, header)
        for index in range(1000):
            out.write(np.full((3, 128, 128), index, "<f4").tobytes())
    np.savez(
        tmp_path / "small.npz",
        x=np.arange(50, dtype=np.float32)[:, None, None, None] + np.zeros((3, 128, 128), "f4"),
    )
    assert peak(path, 1000) <= 1.15 * peak(tmp_path / "small.npz", 50)
