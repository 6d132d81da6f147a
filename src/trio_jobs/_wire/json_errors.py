"""What is wrong with a text that is not JSON, or not what was expected."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["what_is_wrong", "which_job"]

#: The escape of one half of a surrogate pair without the other half
_LONE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
#: The place in a message of msgspec, for parameters with a list of jobs
_JOB: Final = re.compile(r"(?:at|in) `\$\.jobs\[(\d+)\][^`]*`$")


def which_job(error: Exception) -> int | None:
    """Which of the `jobs` of a request a decoder has refused, from 0; None if it has refused something else."""
    found = _JOB.search(str(error))
    return None if found is None else int(found[1])


def what_is_wrong(error: Exception, text: bytes) -> str:
    """The message of a decoder, which names a lone surrogate as the end of the text, or not at all.

    Args:
        error: What msgspec raised.
        text: What it could not decode.
    """
    lone = _LONE.search(text)
    if lone is None:
        return str(error)
    return f"{error}; the escape at byte {lone.start()} is one half of a surrogate pair, and has no other half"
