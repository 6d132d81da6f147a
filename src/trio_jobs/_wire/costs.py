"""The cost of a request: how much it takes from the rate limit of its connection.

Client and server compute it from the same parameters, so a client can pace itself. The unit is a request that reads or
changes one job; the other costs follow from the time that the server's event loop needs.
"""

from __future__ import annotations

from typing import Final

from trio_jobs._wire.commands import CancelMany, SubmitMany
from trio_jobs._wire.histories import History
from trio_jobs._wire.job_lists import Count, List
from trio_jobs._wire.methods import Subscribe
from trio_jobs._wire.params import Params

__all__ = ["BULK", "COUNT", "HISTORY", "JOBS_OF_BULK", "JOBS_PER_UNIT", "SNAPSHOT", "cost"]

JOBS_PER_UNIT: Final = 50  #: jobs of a list, or job ids of a subscription, that cost as much as one request
COUNT: Final = 3  #: cost of a count
HISTORY: Final = 5  #: cost of a history, for which a journal is searched between the commits
BULK: Final = 10  #: cost of a bulk operation, without the jobs that it may change
JOBS_OF_BULK: Final = 50  #: jobs that a bulk operation changes, or submits, for the cost of one request
SNAPSHOT: Final = 10  #: additional cost of a subscription that starts with a snapshot


def cost(params: Params) -> int:
    """The cost of a request with these parameters, at least 1."""
    if isinstance(params, List):
        return 1 + params.limit // JOBS_PER_UNIT
    if isinstance(params, Subscribe):
        return 1 + len(params.jobs or ()) // JOBS_PER_UNIT + (SNAPSHOT if params.snapshot else 0)
    if isinstance(params, History):
        return HISTORY
    if isinstance(params, SubmitMany):
        return 1 + len(params.jobs) // JOBS_OF_BULK
    if isinstance(params, CancelMany):
        return BULK + params.limit // JOBS_OF_BULK
    return COUNT if isinstance(params, Count) else 1
