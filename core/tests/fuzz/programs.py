"""A fuzzer of torch.export programs: fields of a good one changed, and what checking and loading make of each.

    python core/tests/fuzz/programs.py --count 2000 --seed 1

Whatever a file says, it is refused with an MxError, or loaded, and runs no code: a hostile field would make a
folder, the marker. The attacks themselves are in core/tests/strangers/pt2.py.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from modelexport.errors import MxError
from modelexport.model import pt2

from core.tests.fuzz.bounds import bounded
from core.tests.strangers import pt2 as strangers


def tried(path, marker):
    """How one file ends: "refused", "passed" (the check, and torch does not load it) or "loaded".

    Raises AssertionError where it lit the marker, and what is no MxError.
    """
    try:
        with bounded():
            pt2.check_program(path)
            try:
                pt2.load_program(path)
            except MxError:
                return "passed"
            return "loaded"
    except MxError as error:
        assert error.hint, error
        return "refused"
    finally:
        assert not marker.exists(), "it ran code"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    ends = Counter()
    with tempfile.TemporaryDirectory() as folder:
        members = strangers.read(strangers.harmless(Path(folder) / "harmless.pt2"))
        marker, path = Path(folder) / "lit", Path(folder) / "changed.pt2"
        for seed in range(asked.seed * 1_000_000, asked.seed * 1_000_000 + asked.count):
            try:
                ends[tried(strangers.write(path, strangers.mutated(members, seed, marker)), marker)] += 1
            except BaseException as error:
                error.add_note(f"mutation {seed}")
                raise
    print(", ".join(f"{count} {end}" for end, count in sorted(ends.items())))


if __name__ == "__main__":
    main()
