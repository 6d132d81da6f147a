"""Exceptions whose class does what it can to make whoever describes them raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["HOSTILE", "Number", "Word"]


class Word(str):
    """A str that is no exact one, as markup and the results of an XPath are."""

    def __str__(self) -> str:
        return self

    def __getitem__(self, index: Any) -> Word:
        return Word(super().__getitem__(index))


class Number(int):
    """An int that is no exact one."""


class _Unreadable:
    """An attribute that cannot be read."""

    def __get__(self, instance: object, owner: object) -> Any:
        raise RuntimeError("not now")


class CodeRaises(Exception):
    code = _Unreadable()


class CodeExits(Exception):
    @property
    def hresult(self) -> int:
        raise SystemExit("no code")


class OddCode(Exception):
    code = Number(-2147221008)


class WordCode(Exception):
    code = Word("E_FAIL")


class HugeCode(Exception):
    code = 10**5000


class LyingCode(Exception):
    class _Code:
        __class__ = _Unreadable()

    code = _Code()


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Fatal(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class NoText(Exception):
    def __str__(self) -> Any:
        return 5


class Wordy(Exception):
    def __str__(self) -> str:
        return Word("a word")


class Long(Exception):
    def __str__(self) -> str:
        return "x" * 10_000_000


class Masked(Exception):
    __class__ = _Unreadable()


class Disguised(Exception):
    __class__ = KeyboardInterrupt  # type: ignore[assignment] # what a proxy may do


class Untraced(Exception):
    __traceback__ = _Unreadable()
    __cause__ = _Unreadable()


class Unsplit(BaseExceptionGroup):
    def derive(self, excs: Any) -> Any:
        raise RuntimeError("not derived")

    def split(self, condition: Any) -> Any:
        raise RuntimeError("not split")

    def subgroup(self, condition: Any) -> Any:
        raise RuntimeError("no subgroup")


class _Nameless(type):
    __name__ = property(_Unreadable.__get__)  # type: ignore[arg-type] # what a metaclass may do


class Anonymous(Exception, metaclass=_Nameless):
    pass


def _noted() -> Exception:
    error = ValueError("noted")
    error.__notes__ = 5  # type: ignore[assignment] # set by mistake
    return error


def _makes(class_: type[Exception]) -> Callable[[], BaseException]:
    return lambda: class_("x")


#: A function that makes each of them, by name
HOSTILE: Final[dict[str, Callable[[], BaseException]]] = {
    **{
        class_.__qualname__: _makes(class_)
        for class_ in (
            CodeRaises, CodeExits, OddCode, WordCode, HugeCode, LyingCode, Mute, Fatal, NoText, Wordy, Long, Masked,
            Disguised, Untraced,
        )
    },
    "Anonymous": _makes(Anonymous),
    "Unsplit": lambda: Unsplit("both", [ValueError(), Mute()]),
    "surrogates": lambda: ValueError("half \ud83d of it" * 1000),
    "notes": _noted,
    "named by a word": lambda: type(Word("Named"), (Exception,), {})("x"),
}  # fmt: skip
