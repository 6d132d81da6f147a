"""What a handler must declare before it is given an SDK.

An attempt that raised, was cut off by a limit or was killed may have done its work, and nobody but the author of the
handler knows what follows from that. So there is no default: a handler that takes an SDK declares one of four things.
`may_repeat` is the one place that knows which of them permit another attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trio_jobs._engine.jobs import JobRecord, OnDoubt
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry, Rules
from trio_jobs._errors import InvalidHandler

__all__ = ["declared_rules", "may_repeat"]

_UNDECLARED: Final = """takes an SDK, so it must declare what follows an attempt that may have done its work:
  verify=FUNCTION   FUNCTION(sdk, job) looks whether the work is there, and nothing is done twice. It costs a function,
                    and one more call of the SDK after each such attempt.
  idempotent=True   Doing the work twice does no harm. It is repeated after an error, a limit, a crash and a stop.
  retry=Retry()     An attempt that raised is repeated without a look: what it had done is done twice. After a limit,
                    a crash or a stop the job waits in_doubt.
  on_doubt="hold"   At most once: the job waits in_doubt until a person resolves it. With "fail" it fails instead."""


def declared_rules(
    name: str,
    takes_sdk: bool,
    *,
    retry: Retry | None,
    idempotent: bool,
    verify: Callable[..., Any] | None,
    on_doubt: OnDoubt | None,
) -> Rules:
    """The rules of a handler; None for what was not declared.

    Raises:
        InvalidHandler: A value is invalid, or the handler takes an SDK and declares nothing.
    """
    if on_doubt not in (None, "hold", "retry", "fail"):
        raise InvalidHandler(f"on_doubt of {name!r} must be 'hold', 'retry' or 'fail', not {on_doubt!r}")
    if not isinstance(retry, Retry | None):
        raise InvalidHandler(f"retry of {name!r} must be a Retry, not {retry!r}")
    if not isinstance(idempotent, bool):
        raise InvalidHandler(f"idempotent of {name!r} must be True or False, not {idempotent!r:.100}")
    if takes_sdk and verify is None and not idempotent and retry is None and on_doubt is None:
        raise InvalidHandler(f"handler {name!r} {_UNDECLARED}")
    return Rules(
        retry=DEFAULT_RETRY if retry is None else retry,
        retries_unverified=retry is not None or not takes_sdk,
        idempotent=idempotent,
        verifies=verify is not None,
        on_doubt="hold" if on_doubt is None else on_doubt,
    )


def may_repeat(record: JobRecord, rules: Rules, *, automatic: bool) -> bool:
    """Whether another attempt of the job may start: it has not acted, or its handler or an operator permits it.

    With a verify, the answer is True: verify is called before the attempt.

    Args:
        record: The job.
        rules: The rules of its handler.
        automatic: The attempt is one of a run under way. False: an operator starts a new run, to which a `retry` that
            was declared does not consent.
    """
    if not record.may_have_acted or rules.verifies or rules.idempotent or rules.on_doubt == "retry":
        return True
    return automatic and (rules.retries_unverified or record.repeats)
