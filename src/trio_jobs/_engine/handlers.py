"""Floor 5: a handler as it was declared, checked once, with all that an attempt needs prepared. No IO.

Payloads are kept as JSON. `encode` makes it and reads it back with the handler's type: that is the check at submit,
it frees the job from objects that the caller may still change, and each attempt gets a fresh one.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, Literal

import attrs
import msgspec

from trio_jobs._engine.jobs import OnDoubt
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._errors import InvalidHandler, InvalidPayload
from trio_jobs._validation import check_seconds, is_text

__all__ = ["MAX_RESULT", "NULL", "Handler", "SdkKind", "digest", "encode_result", "make_handler"]

MAX_RESULT: Final = 1024 * 1024
MAX_PAYLOAD: Final = 1024 * 1024
NULL: Final = msgspec.Raw(b"null")

SdkKind = Literal["thread", "trio", "none"]


@attrs.frozen(eq=False)
class Handler:
    """kind: its name. is_async: runs on Trio's thread, else on the SDK's. enters_at_start: it is in the SDK from its
    first moment. attempt_timeout, stuck_after, verify_timeout, verify_delay: seconds; inf for no limit. verify_first:
    verify is asked before the first attempt too.
    """

    kind: str
    fn: Callable[..., Any]
    is_async: bool
    takes_sdk: bool
    takes_job: bool
    enters_at_start: bool
    payload_type: Any
    result_type: Any
    rules: Rules
    attempt_timeout: float
    stuck_after: float
    verify: Callable[..., Any] | None
    verify_is_async: bool
    verify_timeout: float
    verify_delay: float
    verify_first: bool
    decode: Callable[[bytes | msgspec.Raw], Any] = attrs.field(repr=False)
    decode_result: Callable[[bytes | msgspec.Raw], Any] = attrs.field(repr=False)

    def encode(self, payload: Any) -> msgspec.Raw:
        """`payload` as JSON. Raises `InvalidPayload` naming the field, if it does not fit the handler's type."""
        try:
            body = msgspec.json.encode(payload)
            self.decode(body)
        except Exception as error:  # encoders and the type's own __post_init__ may raise anything
            raise InvalidPayload(self.kind, str(error) or type(error).__name__) from error
        if len(body) > MAX_PAYLOAD:
            raise InvalidPayload(self.kind, f"it is {len(body)} bytes long, at most {MAX_PAYLOAD} are taken")
        return msgspec.Raw(body)


def digest(payload: msgspec.Raw) -> str:
    """The hash by which two payloads of one key are compared: of the canonical JSON, whatever order it came in."""
    canonical = msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
    return blake2b(canonical, digest_size=16).hexdigest()


def encode_result(value: Any) -> tuple[msgspec.Raw | None, str | None]:
    """A handler's result as JSON, or None and why it cannot be kept. Never raises: the work is done by then."""
    if value is None:
        return NULL, None
    try:
        body = msgspec.json.encode(value)
    except Exception as error:
        if inspect.iscoroutine(value):
            value.close()
        return None, f"not JSON: {error}"
    if len(body) > MAX_RESULT:
        return None, f"it is {len(body)} bytes long, at most {MAX_RESULT} are kept"
    return msgspec.Raw(body), None


def make_handler(
    fn: Callable[..., Any],
    sdk: SdkKind,
    *,
    kind: str | None,
    payload_type: Any,
    attempt_timeout: float | None,
    stuck_after: float | None,
    retry: Retry,
    idempotent: bool,
    verify: Callable[..., Any] | None,
    verify_timeout: float,
    verify_delay: float,
    verify_first: bool,
    on_doubt: OnDoubt,
) -> Handler:
    """Check a declaration. Raises `InvalidHandler`, or `UsageError` for a number that cannot be."""
    if not callable(fn):
        raise InvalidHandler(f"a handler must be a function, not {fn!r}")
    name = kind if kind is not None else getattr(fn, "__name__", "")
    if not is_text(name, 200) or name == "<lambda>":
        raise InvalidHandler(f"{fn!r} needs a name of at most 200 characters: say kind=...")
    is_async = _is_async(fn)
    if inspect.isasyncgenfunction(_called(fn)) or inspect.isgeneratorfunction(_called(fn)):
        raise InvalidHandler(f"handler {name!r} is a generator; it must return its result, not yield")
    if sdk == "trio" and not is_async:
        raise InvalidHandler(
            f"handler {name!r} is a plain function, but the SDK is asynchronous: write it as async def"
        )
    takes_sdk = sdk != "none"
    payload_type, result_type, takes_job = _signature(fn, name, takes_sdk, payload_type)
    if verify is not None:
        _check_verify(verify, name, sdk, takes_sdk)
    elif verify_first:
        raise InvalidHandler(f"handler {name!r}: verify_first needs a verify to ask")
    if on_doubt not in ("hold", "retry", "fail"):
        raise InvalidHandler(f"on_doubt of {name!r} must be 'hold', 'retry' or 'fail', not {on_doubt!r}")
    if not isinstance(retry, Retry):
        raise InvalidHandler(f"retry of {name!r} must be a Retry, not {retry!r}")
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
        rules=Rules(retry=retry, idempotent=idempotent, verifies=verify is not None, on_doubt=on_doubt),
        attempt_timeout=limit,
        stuck_after=limit if stuck_after is None else check_seconds("stuck_after", stuck_after, zero=False),
        verify=verify,
        verify_is_async=verify is not None and _is_async(verify),
        verify_timeout=check_seconds("verify_timeout", verify_timeout, zero=False),
        verify_delay=check_seconds("verify_delay", verify_delay),
        verify_first=verify_first,
        decode=_decoder(payload_type, name, "payload"),
        decode_result=_decoder(result_type, name, "result"),
    )


def _limit(name: str, seconds: float | None) -> float:
    return float("inf") if seconds is None else check_seconds(name, seconds, zero=False)


def _signature(fn: Callable[..., Any], name: str, takes_sdk: bool, payload_type: Any) -> tuple[Any, Any, bool]:
    wanted = "(sdk, payload) or (sdk, payload, job)" if takes_sdk else "(payload) or (payload, job)"
    positional = _positional(fn)
    least = 2 if takes_sdk else 1
    if positional is None or not least <= len(positional) <= least + 1:
        raise InvalidHandler(f"handler {name!r} must take {wanted}, not {_shown(fn)}")
    try:
        hints = typing.get_type_hints(_called(fn))
    except Exception as error:  # reading an annotation runs whatever it says
        if payload_type is None:
            raise InvalidHandler(
                f"the annotations of handler {name!r} cannot be read ({error}); define its types in a module, "
                "or say payload_type=..."
            ) from error
        hints = {}
    if payload_type is None:
        payload = positional[least - 1]
        if payload not in hints:
            raise InvalidHandler(f"handler {name!r}: say of which type {payload!r} is, for payloads to be checked")
        payload_type = hints[payload]
    return payload_type, hints.get("return", Any), len(positional) > least


def _check_verify(verify: Callable[..., Any], name: str, sdk: SdkKind, takes_sdk: bool) -> None:
    wanted = 2 if takes_sdk else 1
    if not callable(verify) or len(_positional(verify) or ()) != wanted:
        raise InvalidHandler(f"verify of {name!r} must take {'(sdk, job)' if takes_sdk else '(job)'}")
    if sdk == "trio" and not _is_async(verify):
        raise InvalidHandler(f"verify of {name!r} must be async def, as the SDK is asynchronous")


def _called(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs in the end: behind a partial, or as `__call__` of an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) or inspect.isclass(fn) else type(fn).__call__


def _is_async(fn: Callable[..., Any]) -> bool:
    """Also an object whose `__call__` is async def: on the SDK's thread it would only give a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_called(fn))


def _positional(fn: Callable[..., Any]) -> list[str] | None:
    """Names of what it is called with; None where something cannot be given by position, or nobody can tell."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return by_position if len(by_position) == len(parameters) else None


def _shown(fn: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(fn))
    except (TypeError, ValueError):
        return "a signature that cannot be read"


def _decoder(of: Any, name: str, what: str) -> Callable[[bytes | msgspec.Raw], Any]:
    try:
        if of is not Any:
            msgspec.json.schema(of)  # the decoder alone would find an unknown class only when it meets one
        return msgspec.json.Decoder(of).decode
    except Exception as error:  # looking into a type runs the annotations of its fields
        if what == "result":  # a result only has to be encoded; then it is given back as plain JSON values
            return msgspec.json.Decoder(Any).decode
        why = (str(error) or type(error).__name__).splitlines()[-1]  # above it stands advice about msgspec's own hooks
        raise InvalidHandler(
            f"the {what} type of handler {name!r} cannot be read from JSON ({why}); "
            "use attrs classes, dataclasses, msgspec structs or builtins"
        ) from error
