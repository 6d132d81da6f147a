"""Which jobs a list, a count or a snapshot contains. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal, TypedDict, cast, final, get_args

import attrs

from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._errors import UsageError
from trio_jobs._validation import MAX_BY, MAX_KEY, MAX_LABEL, check_date, check_labels, check_text, unknown_keyword

__all__ = ["EVERY_JOB", "Group", "JobFilter", "ListConditions", "Order", "parse_group", "parse_order", "parse_state"]

Order = Literal["oldest", "newest"]
Group = Literal["state", "kind", "error_type", "label"]

MAX_NAME: Final = 200  #: characters of the name of a kind or of the class of an error


def parse_state(name: State | str) -> State:
    """Return the state with this name.

    Raises:
        UsageError: There is none.
    """
    try:
        return State(name)
    except ValueError:
        raise UsageError(f"there is no state {name!r}; there are {', '.join(State)}") from None


def parse_order(order: str) -> Order:
    """Return the order with this name.

    Raises:
        UsageError: There is none.
    """
    if order not in get_args(Order):
        raise UsageError(f"the order is 'oldest' or 'newest', not {order!r:.100}")
    return cast("Order", order)


def parse_group(group: str) -> tuple[Group, str]:
    """Return the group with this name, and the name of the label for `label:NAME`.

    Raises:
        UsageError: There is none.
    """
    name, colon, label = group.partition(":") if isinstance(group, str) else ("", "", "")
    if name not in get_args(Group) or (name == "label") is not bool(colon):
        raise UsageError(f"jobs are counted by 'state', 'kind', 'error_type' or 'label:NAME', not by {group!r:.100}")
    return cast("Group", name), check_text("the name of a label", label, MAX_LABEL) if colon else ""


@final
class ListConditions(TypedDict, total=False):
    """The keywords of `Queue.list` and `Queue.count` that select jobs. A job must match all of them; None matches every
    job."""

    state: State | str | None
    """Only jobs in this state."""
    states: Iterable[State | str] | None
    """Only jobs in one of these states. Not together with `state`."""
    kind: str | None
    """Only jobs of this kind."""
    key_prefix: str | None
    """Only jobs whose key begins with this text, 1 to 500 characters."""
    error_type: str | None
    """Only jobs whose `error` is of a class with this name, 1 to 200 characters."""
    may_have_acted: bool | None
    """Only jobs that may have acted; False: only jobs that have not."""
    labels: Mapping[str, str] | None
    """Only jobs with all of these labels, at most 8."""
    by: str | None
    """Only jobs of this submitter."""
    since: datetime | None
    """Only jobs that were submitted at this aware datetime or later."""
    until: datetime | None
    """Only jobs that were submitted before this aware datetime."""


@final
@attrs.frozen(kw_only=True)
class JobFilter:
    """The conditions that a job must match, checked. None matches every job."""

    states: frozenset[State] | None = None
    kinds: frozenset[str] | None = None
    key_prefix: str | None = None
    error_type: str | None = None
    may_have_acted: bool | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """Names and values, sorted."""
    by: str | None = None
    since: float | None = None
    """UTC, seconds since the epoch."""
    until: float | None = None
    """UTC, seconds since the epoch."""

    @classmethod
    def of(cls, conditions: ListConditions) -> JobFilter:
        """Check conditions.

        Raises:
            UsageError: A value is not valid.
        """
        known = ListConditions.__annotations__
        error = unknown_keyword("list and count", conditions.keys() - known, known, {}, {})
        if error is not None:
            raise error
        state, states, kind = conditions.get("state"), conditions.get("states"), conditions.get("kind")
        if state is not None and states is not None:
            raise UsageError("give state or states, not both")
        if isinstance(states, str):
            raise UsageError(f"states is a list of states, not {states!r:.100}; use state for one")
        if state is not None:
            states = (state,)
        acted, since, until = conditions.get("may_have_acted"), conditions.get("since"), conditions.get("until")
        if acted is not None and type(acted) is not bool:
            raise UsageError(f"may_have_acted is True, False or None, not {acted!r:.100}")
        return cls(
            states=None if states is None else frozenset(map(parse_state, states)),
            kinds=None if kind is None else frozenset((check_text("a kind", kind, MAX_NAME, noun="name"),)),
            key_prefix=_text("key_prefix", conditions.get("key_prefix"), MAX_KEY),
            error_type=_text("error_type", conditions.get("error_type"), MAX_NAME),
            may_have_acted=acted,
            labels=tuple(sorted((check_labels(conditions.get("labels")) or {}).items())),
            by=_text("by", conditions.get("by"), MAX_BY),
            since=None if since is None else check_date("since", since),
            until=None if until is None else check_date("until", until),
        )

    def matches(self, record: JobRecord) -> bool:
        """Whether a job matches. `JobTable.scan` finds the same jobs without looking at each."""
        return (
            (self.states is None or record.state in self.states)
            and (self.kinds is None or record.kind in self.kinds)
            and (self.key_prefix is None or (record.key is not None and record.key.startswith(self.key_prefix)))
            and (self.error_type is None or (record.error is not None and record.error.type == self.error_type))
            and (self.may_have_acted is None or record.has_acted == self.may_have_acted)
            and (not self.labels or (record.labels is not None and record.labels.items() >= {*self.labels}))
            and (self.by is None or record.by == self.by)
            and (self.since is None or record.submitted_at >= self.since)
            and (self.until is None or record.submitted_at < self.until)
        )


def _text(name: str, value: str | None, most: int) -> str | None:
    return None if value is None else check_text(name, value, most)


EVERY_JOB: Final = JobFilter()
