"""A call of a function in the process of the SDK, for an async handler in that of the queue."""

from __future__ import annotations

import importlib
from typing import Any, final

from trio_jobs._call_report import CallReport
from trio_jobs._engine.error_info import class_name, describe
from trio_jobs._engine.retry import DEFAULT_RETRY
from trio_jobs._errors import InvalidHandler, UsageError
from trio_jobs._exception_tree import clear_frames, is_a
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.remote_call import decode_data, encode_data, find_function
from trio_jobs._sdk_call import CallEnd, SaveCall, SdkCall

__all__ = ["NamedCall", "was_raised"]


@final
class NamedCall(SdkCall):
    """A call of a function by its name.

    Args:
        function: See `CallFunction`.
        args: See `CallFunction`.
        save: The call of `save` of the service; None without one.
    """

    __slots__ = ("_args", "_function", "_save", "value", "was_raised")

    def __init__(self, function: str, args: bytes, save: SaveCall | None) -> None:
        super().__init__(DEFAULT_RETRY, renew=True)
        self._function = function
        self._args = args
        self._save = save
        self.value: bytes | None = None
        """What it returned; None if it raised."""
        self.was_raised: pm.WasRaised | None = None
        """What it raised; None if it returned."""

    def invoke(self, sdk: Any) -> Any:
        if self._function == pm.SAVE:
            assert self._save is not None
            not_run = self._save.returned(self._save.invoke(sdk)).not_run
            if not_run is not None:
                raise InvalidHandler(f"save returned {not_run}, which has not run")
            self.value = encode_data("", None)
            return
        importlib.import_module(self._function.partition(":")[0])
        returned = find_function(self._function)(sdk, *decode_data(self._args))
        self.value = encode_data(f"what {self._function} returned", returned)

    def returned(self, value: Any) -> CallReport:
        return CallReport()

    def raised(self, error: BaseException) -> CallEnd:
        end = super().raised(error)
        self.was_raised = was_raised(error)
        return CallEnd(end.report, error)


def was_raised(error: BaseException) -> pm.WasRaised:
    """The facts of an exception that the queue raises again. The frames of the exception are cleared."""
    try:
        mro = [f"{class_.__module__}:{class_.__qualname__}" for class_ in type(error).__mro__]
    except BaseException:  # a metaclass can define these as properties
        mro = [class_name(error)]
    info = describe(error, with_traceback=True)
    clear_frames(error)
    return pm.WasRaised(info, mro, is_a(error, UsageError))
