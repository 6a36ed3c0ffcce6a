"""What toolchains raise is told in words, and what is not their fault is left alone."""

import errno

import pytest
from modelexport.errors import ConversionError, OptionError
from modelexport.toolkit import failed, translated


def test_the_first_line_of_the_error_behind_it_is_said():
    cause = ValueError("no axis 3\nin file x.cc")
    with pytest.raises(ConversionError) as raised, translated(failed("the tool can't convert", "try another")):
        try:
            raise cause
        except ValueError as error:
            raise RuntimeError("conversion failed") from error
    assert raised.value.message == "the tool can't convert: ValueError: no axis 3"
    assert raised.value.hint == "try another"
    assert raised.value.__cause__.__cause__ is cause


@pytest.mark.parametrize(
    "error", [OptionError("groups of 7"), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()]
)
def test_what_is_not_the_tools_fault_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, translated(failed("the tool can't convert", "")):
        raise error
    assert raised.value is error


def test_a_full_disk_behind_an_error_is_not_hidden():
    with pytest.raises(RuntimeError, match="cannot write"), translated(failed("the tool can't convert", "")):
        raise RuntimeError("cannot write") from OSError(errno.ENOSPC, "No space left")
