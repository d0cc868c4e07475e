"""What becomes of a mistake, a bug and a signal: one line on stderr, and an exit code that says which it was."""

import io
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer

from headpursuit import __version__
from headpursuit.errors import ChoiceError, HeadPursuitError

_KEY_OPTION = "--api-key"
# Names of environment variables whose values are nobody's business, and the shortest value that could be a secret.
_SECRET, _SHORTEST = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE), 6
_PASSWORD = re.compile(r"(?<=://)[^\s/@'\"]+@")
_LONGEST = 1000
# Commands that find again what an earlier run of theirs has kept.
_GOES_ON = {"capture", "demo", "evaluate", "export", "keywords", "tune"}
# What all errors of usage are, which typer has no public name for.
_UsageError: Any = typer.BadParameter.__base__
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the line of source that gave it."""
    return f"warning: {message}\n"


class Stopped(BaseException):
    """The command is asked to end. It is no Exception, so that nothing on the way takes it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def one_line_each(words: Sequence[str], *, debug: bool) -> Iterator[None]:
    """Make one line and an exit code of whatever ends a command.

    Wrong usage is exit 2, with the option and how it is used, as is a value that an option does not know. A mistake that its
    reader can mend is exit 1, as is a bug, whose full report goes into a file; SIGINT is exit 130 and SIGTERM exit 143, with
    the command that goes on.

    Args:
        words: the command's words, for the line that says how to go on.
        debug: show the traceback, too.
    """
    before = _catch_signals()
    in_full, warnings.formatwarning = warnings.formatwarning, _warning_line
    try:
        yield
    except Stopped as stop:
        _end(_how_to_go_on(words, stop), code=128 + stop.number, words=words)
    except _UsageError as error:
        told = io.StringIO()
        error.show(file=told)
        sys.stderr.write(without_secrets(told.getvalue(), words))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # What is still to be written would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            sys.stderr.write(without_secrets(traceback.format_exc(), words))
        _end(_in_words(error, words), code=2 if isinstance(error, ChoiceError) else 1, words=words)
    finally:
        warnings.formatwarning = in_full
        for number, handler in before.items():
            signal.signal(number, handler)


def without_secrets(text: str, words: Sequence[str]) -> str:
    """A text without the keys of the environment and of the command line, and without passwords in addresses."""
    secrets = {value.strip() for name, value in os.environ.items() if _SECRET.search(name)} | {*_keys(words)}
    for secret in sorted((one for one in secrets if len(one) >= _SHORTEST), key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return _PASSWORD.sub("[password]@", text)


def _catch_signals() -> Mapping[int, Any]:
    """Have signals raise :class:`Stopped`; gives the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def stop(number: int, _: object) -> NoReturn:
        # A second signal, while files are being put away, ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    # What the caller ignores, as a shell does for its background jobs, stays ignored.
    return {number: signal.signal(number, stop) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}


def _how_to_go_on(words: Sequence[str], stop: Stopped) -> str:
    command = f"headpursuit {shlex.join(without_secrets(word, words) for word in words)}"
    goes_on = next((word for word in words if not word.startswith("-")), "") in _GOES_ON
    return f"stopped by {stop}; to {'go on from what is kept' if goes_on else 'start again'}: {command}"


def _keys(words: Sequence[str]) -> Iterator[str]:
    for position, word in enumerate(words):
        if position and words[position - 1] == _KEY_OPTION:
            yield word.strip()
        elif word.startswith(f"{_KEY_OPTION}="):
            yield word.partition("=")[2].strip()


def _in_words(error: Exception, words: Sequence[str]) -> str:
    if isinstance(error, HeadPursuitError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error.strerror or error)
    # torch has classes of its own for graphics cards, and only a text for the machine's memory.
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error):
        return f"out of memory ({error or type(error).__name__}): take a smaller --batch-size, fewer or shorter samples"
    report = _write_report(error, words)
    return f"unexpected error ({type(error).__name__}: {error}), a bug of headpursuit; {report}"


def _write_report(error: Exception, words: Sequence[str]) -> str:
    text = "".join(
        [
            f"headpursuit {__version__}, Python {sys.version.split()[0]} on {sys.platform}\n",
            f"headpursuit {shlex.join(words)}\n\n",
            *traceback.format_exception(error),
        ]
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="headpursuit-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(without_secrets(text, words))
    except OSError:
        return "no report of it could be written, --debug shows it"
    return f"the full report is in {file.name}"


def _end(line: str, *, code: int, words: Sequence[str]) -> NoReturn:
    """Say one line, whatever stands in it, and end.

    A file's name or content may hold line ends and codes that steer a terminal.
    """
    shown = "".join(character if character.isprintable() else " " for character in without_secrets(line, words))
    if code == 1 and len(shown) > _LONGEST:
        half = _LONGEST // 2
        shown = f"{shown[:half]} … {shown[-half:]}"
    with suppress(OSError):
        sys.stderr.write(f"headpursuit: {shown}\n")
    sys.exit(code)
