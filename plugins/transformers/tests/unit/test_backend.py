"""What transformers shows and says while it works stays off the terminal, and comes back afterwards."""

import logging
import sys
import warnings

import pytest
from modelexport_transformers import backend


@pytest.fixture
def noise(transformers):
    """A progress bar and warnings, in the ways in which transformers makes them."""
    from tqdm.auto import tqdm
    from transformers.utils import logging as its_logging

    def make():
        for bars in (tqdm, its_logging.tqdm):
            list(bars(range(3), desc="a bar"))
        its_logging.get_logger("transformers.modeling_utils").warning("a warning of its logger")
        warnings.warn("a Python warning", stacklevel=1)
        print("a report")
        print("a complaint", file=sys.stderr)

    return make


def test_nothing_is_shown_inside_the_block(noise, capfd):
    with backend.silenced():
        noise()
    assert capfd.readouterr() == ("", "")


def test_everything_is_shown_after_it(noise, capfd, recwarn):
    before = logging.getLogger("transformers").level
    with pytest.raises(ValueError, match="no"), backend.silenced():
        raise ValueError("no")
    assert logging.getLogger("transformers").level == before
    noise()
    out, err = capfd.readouterr()
    assert out == "a report\n"
    assert "a bar" in err
    assert [str(each.message) for each in recwarn] == ["a Python warning"]
