"""A declared handler: checked once, with everything prepared that an attempt needs. No IO.

Payloads are kept as JSON. `Handler.encode` produces the JSON and decodes it again with the handler's type. This is the
check at submit; it also detaches the job from objects that the caller may still change, and each attempt decodes a
payload of its own.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import attrs
import msgspec

from trio_jobs._engine import payload_codec
from trio_jobs._engine.error_info import class_name, describe
from trio_jobs._engine.jobs import OnDoubt
from trio_jobs._engine.json_limits import SHORT, excess
from trio_jobs._engine.lazy_values import NotRunError, close_lazy, lazy_noun
from trio_jobs._engine.payload_check import EXACT, PayloadCheck, refuse_not_finite
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._engine.safety import declared_rules
from trio_jobs._errors import InvalidHandler, InvalidPayload, UsageError
from trio_jobs._validation import check_seconds, check_text

__all__ = [
    "NULL",
    "EncodedResult",
    "Handler",
    "SdkKind",
    "encode_payload",
    "encode_result",
    "make_handler",
]

MAX_KIND: Final = 200
"""The longest name of a kind, in characters."""

NULL: Final = msgspec.Raw(b"null")

#: Classes that are encoded without a look at what they are
_NATIVE: Final = frozenset({str, int, float, bool, dict, list, tuple})

SdkKind = Literal["thread", "trio", "none"]


@attrs.frozen(eq=False)
class Handler:
    """A declared handler. `Service.handler` documents the arguments; limits are in seconds, inf for no limit."""

    kind: str
    """The name of the kind, 1 to 200 characters."""

    fn: Callable[..., Any]
    """The function that the user registered."""

    is_async: bool
    """Whether it runs in the Trio thread; otherwise it runs in `SdkExecutor.call`."""

    takes_sdk: bool
    """Whether its first argument is the SDK."""

    takes_job: bool
    """Whether its last argument is a job context."""

    enters_at_start: bool
    """Whether an attempt has entered the SDK as soon as it starts."""

    payload_type: Any
    """The type that payloads are decoded to."""

    result_type: Any
    """The annotated type of the result; `Any` without an annotation."""

    rules: Rules
    """What the engine needs to decide about jobs of this kind."""

    attempt_timeout: float
    """Limit for one attempt."""

    stuck_after: float
    """Seconds after the limit until a call that has not returned counts as stuck."""

    verify: Callable[..., Any] | None
    """The function that reports what an attempt did."""

    verify_is_async: bool
    """Whether `verify` runs in the Trio thread."""

    verify_timeout: float
    """Limit for one call of `verify`."""

    verify_delay: float
    """Seconds between the end of an attempt and the call of `verify`."""

    verify_first: bool
    """Whether `verify` is called before the first attempt too."""

    decode: Callable[[bytes | msgspec.Raw], Any] = attrs.field(repr=False)
    """Reads a payload from JSON. Raises what the type's own checks raise."""

    decode_result: Callable[[bytes | msgspec.Raw], Any] = attrs.field(repr=False)
    """Reads a result from JSON."""

    check: PayloadCheck = attrs.field(repr=False)
    """Refuses payloads that do not come back from their JSON."""

    @property
    def has_async_sdk(self) -> bool:
        """Whether the SDK is asynchronous."""
        return self.is_async and self.enters_at_start

    def encode(self, payload: Any) -> msgspec.Raw:
        """The JSON of `payload`. Raises: as `accept`."""
        return self.accept(payload)[0]

    def accept(self, payload: Any) -> tuple[msgspec.Raw, Any]:
        """Check a payload.

        Args:
            payload: A value that fits the handler's type; or its JSON as `msgspec.Raw`, of which every digit is kept.

        Returns:
            The JSON of the payload, and what it is decoded to.

        Raises:
            InvalidPayload: The payload does not fit the handler's type (the message names the field), does not come
                back from its JSON as it was given, or its JSON is longer than 1 MiB or nested deeper than 100 levels.
        """
        try:
            body, class_ = payload_codec.encode(payload), type(payload)
            if class_ is msgspec.Raw:
                body = msgspec.json.format(body, indent=-1)  # without white space, and without a reference to a message
            if len(body) > SHORT and (problem := excess(body)) is not None:
                raise ValueError(problem)
            if body.find(b"null") >= 0 and class_ is not msgspec.Raw:  # `in` takes six times as long
                refuse_not_finite(payload)
            value = self.decode(body)
            if class_ not in EXACT or class_ is not type(value) or payload != value:
                if self.check.has_names:
                    self.check.refuse_unknown_names(body)
                if class_ is not msgspec.Raw:
                    self.check.refuse_difference(payload, value, msgspec.Raw(body))
        except Exception as error:  # an encoder and a type's own __post_init__ can raise anything
            close_lazy(payload)
            raise InvalidPayload(self.kind, describe(error).message or class_name(error)) from error
        return msgspec.Raw(b"%b" % body), value  # a copy: in the encoder's bytes up to half of the memory is unused


def encode_payload(kind: str, payload: Any) -> msgspec.Raw:
    """The JSON of a payload, where the type of the handler is not known.

    Raises:
        InvalidPayload: It cannot be encoded, or its JSON is longer than 1 MiB or nested deeper than 100 levels.
    """
    try:
        body = payload_codec.encode(payload)
        if len(body) > SHORT and (problem := excess(body)) is not None:
            raise ValueError(problem)
        if body.find(b"null") >= 0 and type(payload) is not msgspec.Raw:
            refuse_not_finite(payload)
    except Exception as error:
        close_lazy(payload)
        raise InvalidPayload(kind, describe(error).message or class_name(error)) from error
    return msgspec.Raw(body)


class EncodedResult(NamedTuple):
    """A result as it is kept."""

    body: msgspec.Raw | None
    """Its JSON; None if it cannot be kept."""

    problem: str | None = None
    """Why it cannot be kept; None if it is kept."""

    not_run: str | None = None
    """What it is or contains that has not run, such as "a coroutine"; None if there is no such thing."""


def encode_result(value: Any) -> EncodedResult:
    """The JSON of a handler's result; or why it cannot be kept.

    Never raises, since the work is done by then.
    """
    if value is None:
        return _NONE
    try:
        if type(value) not in _NATIVE and (noun := lazy_noun(value)) is not None:
            raise NotRunError(noun)
        body = payload_codec.encode(value)
        if body.find(b"null") >= 0:
            refuse_not_finite(value)
    except NotRunError as error:
        close_lazy(value)
        return EncodedResult(None, f"not JSON: {error}", error.noun)
    except BaseException as error:  # an encoder of the user's own class can raise anything
        close_lazy(value)
        return EncodedResult(None, f"not JSON: {describe(error).message or class_name(error)}")
    if len(body) > SHORT and (problem := excess(body)) is not None:
        return EncodedResult(None, problem)
    return EncodedResult(msgspec.Raw(b"%b" % body))  # a copy, as of a payload


_NONE: Final = EncodedResult(NULL)

_WRAPS_ASYNC: Final = (
    "is a plain function around an async one, whose coroutine it returns; declare it with async def, and await the "
    "call. If it runs the coroutine itself, delete its attribute __wrapped__"
)


def make_handler(
    fn: Callable[..., Any],
    sdk: SdkKind,
    *,
    kind: str | None,
    payload_type: Any,
    attempt_timeout: float | None,
    stuck_after: float | None,
    retry: Retry | None,
    idempotent: bool,
    verify: Callable[..., Any] | None,
    verify_timeout: float,
    verify_delay: float,
    verify_first: bool,
    on_doubt: OnDoubt | None,
) -> Handler:
    """Check a declaration. `Service.handler` documents the arguments.

    Raises:
        InvalidHandler: The function or `verify` cannot be called as declared, its types cannot be read from JSON, or it
            takes an SDK and does not declare what follows an attempt that may have acted.
        UsageError: A number is out of its range.
    """
    if not callable(fn):
        raise InvalidHandler(f"a handler must be a function, not {fn!r}")
    name = _name(fn, kind)
    is_async = _is_async(fn)
    if not is_async and _wraps_async(fn):
        raise InvalidHandler(f"handler {name!r} {_WRAPS_ASYNC}")
    if inspect.isasyncgenfunction(_target(fn)) or inspect.isgeneratorfunction(_target(fn)):
        raise InvalidHandler(f"handler {name!r} is a generator; return the result instead of yielding it")
    if sdk == "trio" and not is_async:
        raise InvalidHandler(
            f"handler {name!r} is a plain function, but the SDK is asynchronous; declare it with async def"
        )
    takes_sdk = sdk != "none"
    payload_type, result_type, takes_job = _signature(fn, name, takes_sdk, payload_type)
    if verify is not None:
        _check_verify(verify, name, sdk, takes_sdk)
    elif verify_first:
        raise InvalidHandler(f"handler {name!r}: verify_first=True needs verify=...")
    rules = declared_rules(name, takes_sdk, retry=retry, idempotent=idempotent, verify=verify, on_doubt=on_doubt)
    if not isinstance(verify_first, bool):
        raise InvalidHandler(f"verify_first of {name!r} must be True or False, not {verify_first!r:.100}")
    limit = _limit("attempt_timeout", attempt_timeout)
    return Handler(
        kind=name,
        fn=fn,
        is_async=is_async,
        takes_sdk=takes_sdk,
        takes_job=takes_job,
        enters_at_start=sdk == "trio" or not is_async,
        payload_type=payload_type,
        result_type=result_type,
        rules=rules,
        attempt_timeout=limit,
        stuck_after=limit if stuck_after is None else check_seconds("stuck_after", stuck_after, zero=False),
        verify=verify,
        verify_is_async=verify is not None and _is_async(verify),
        verify_timeout=check_seconds("verify_timeout", verify_timeout, zero=False),
        verify_delay=check_seconds("verify_delay", verify_delay),
        verify_first=verify_first,
        decode=_decoder(payload_type, name, "payload"),
        decode_result=_decoder(result_type, name, "result"),
        check=PayloadCheck(payload_type),
    )


def _name(fn: Callable[..., Any], kind: str | None) -> str:
    """The name of the kind, as an exact str."""
    try:
        name = check_text("kind", getattr(fn, "__name__", "") if kind is None else kind, MAX_KIND)
    except UsageError:
        name = "<lambda>"
    if name == "<lambda>":
        raise InvalidHandler(f"{fn!r:.200} needs a name of 1 to {MAX_KIND} characters; give kind=...")
    return name


def _limit(name: str, seconds: float | None) -> float:
    """A limit in seconds; inf for None."""
    return float("inf") if seconds is None else check_seconds(name, seconds, zero=False)


def _signature(fn: Callable[..., Any], name: str, takes_sdk: bool, payload_type: Any) -> tuple[Any, Any, bool]:
    """The types of payload and result, and whether the handler takes a job context."""
    wanted = "(sdk, payload) or (sdk, payload, job)" if takes_sdk else "(payload) or (payload, job)"
    positional = _parameter_names(fn)
    least = 2 if takes_sdk else 1
    if positional is None or not least <= len(positional) <= least + 1:
        raise InvalidHandler(f"handler {name!r} must take {wanted}, not {_signature_text(fn)}")
    try:
        hints = typing.get_type_hints(_target(fn))
    except Exception as error:  # an annotation is an expression that can raise anything
        if payload_type is None:
            raise InvalidHandler(
                f"the annotations of handler {name!r} cannot be read ({error}); define its types at module level, "
                "or give payload_type=..."
            ) from error
        hints = {}
    if payload_type is None:
        payload = positional[least - 1]
        if payload not in hints:
            raise InvalidHandler(
                f"handler {name!r}: annotate parameter {payload!r} with its payload type, or give payload_type=..."
            )
        payload_type = hints[payload]
    return payload_type, hints.get("return", Any), len(positional) > least


def _check_verify(verify: Callable[..., Any], name: str, sdk: SdkKind, takes_sdk: bool) -> None:
    wanted = 2 if takes_sdk else 1
    if callable(verify) and not _is_async(verify) and _wraps_async(verify):
        raise InvalidHandler(f"verify of {name!r} {_WRAPS_ASYNC}")
    if not callable(verify) or len(_parameter_names(verify) or ()) != wanted:
        raise InvalidHandler(f"verify of {name!r} must take {'(sdk, job)' if takes_sdk else '(job)'}")
    if sdk == "trio" and not _is_async(verify):
        raise InvalidHandler(
            f"verify of {name!r} is a plain function, but the SDK is asynchronous; declare it with async def"
        )


def _target(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that is called in the end: that of a partial, or the `__call__` of an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) or inspect.isclass(fn) else type(fn).__call__


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` returns a coroutine; also for an object whose `__call__` is `async def`."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_target(fn))


def _wraps_async(fn: Callable[..., Any]) -> bool:
    """Whether a plain function says of itself (`functools.wraps`, `partial`) that it calls an async one."""
    seen: list[Any] = []
    while not any(one is fn for one in seen):
        seen.append(fn)
        if _is_async(fn):
            return True
        fn = _target(fn)
        fn = getattr(fn, "__wrapped__", fn)
    return False


def _parameter_names(fn: Callable[..., Any]) -> list[str] | None:
    """The names of the parameters; None if one of them is not positional, or there is no signature."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return by_position if len(by_position) == len(parameters) else None


def _signature_text(fn: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(fn))
    except (TypeError, ValueError):
        return "a signature that cannot be read"


def _decoder(of: Any, name: str, what: str) -> Callable[[bytes | msgspec.Raw], Any]:
    try:
        return payload_codec.decoder(of)
    except Exception as error:  # reading the annotations of a type's fields can raise anything
        if what == "result":  # a result must only be encoded; `Queue.result` then returns plain JSON values
            return msgspec.json.Decoder(Any).decode
        why = (str(error) or type(error).__name__).splitlines()[-1]  # msgspec's advice about its hooks comes before
        raise InvalidHandler(
            f"the {what} type of handler {name!r} cannot be read from JSON ({why}); "
            "use attrs classes, dataclasses, msgspec structs, pydantic models or builtins"
        ) from error
