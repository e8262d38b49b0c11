from __future__ import annotations

import re

import pytest

from facecodec import errors

TREE = re.findall(r"(\w+Error) +(\d)  ", errors.__doc__ or "")
CLASSES = [thing for thing in vars(errors).values() if isinstance(thing, type)]


def test_the_docstring_draws_every_error_with_its_exit_code():
    assert [(error.__name__, str(error.exit_code)) for error in CLASSES] == TREE


def test_who_is_whose_child():
    assert {error.__name__: error.__base__.__name__ for error in CLASSES} == {
        "FscError": "Exception",
        "ImageError": "FscError",
        "NoFaceError": "FscError",
        "StreamError": "FscError",
        "TruncatedError": "StreamError",
        "CorruptError": "StreamError",
        "UnsupportedError": "StreamError",
        "WeightsError": "FscError",
    }


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_carries_its_message(error):
    assert str(error("no room")) == "no room"
