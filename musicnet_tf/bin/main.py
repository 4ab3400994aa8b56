"""The `musicnet` command: finds the verbs beside this file and runs the one that is named.

A verb is a module with a docstring, absl flags and `main(argv) -> int | None`. Only the verb that runs
is imported, so that one without TensorFlow starts at once; the list reads docstrings off the source.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags, logging

import musicnet_tf
from musicnet_tf import bin as bin_package
from musicnet_tf.bin import _help
from musicnet_tf.errors import MusicNetError

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE

# What an extra of the package brings, by the module that is missed without it.
EXTRAS = {
    "apache_beam": "beam",
    "tensorflow_io": "tfio",
    "tensorflow_serving": "serving",
    "grpc": "serving",
    "urllib3": "serving",
}

HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `musicnet <argv>` (default: the process's own arguments) and returns its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    _quieten()
    with _pipe_closed_by_reader() as outcome:
        outcome.append(_dispatch(args))
        sys.stdout.flush()
    return outcome[0]


def verbs() -> dict[str, str]:
    """Every verb and the first line of its docstring; imports none of them."""
    found = {}
    for module in sorted(pkgutil.iter_modules(bin_package.__path__), key=lambda m: m.name):
        if module.name != "main" and not module.name.startswith("_"):
            found[module.name] = _summary(Path(module.module_finder.path) / f"{module.name}.py")  # type: ignore[union-attr]
    return found


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in HELP | {"help"}:
        print(_help.overview(verbs()))
        return 0
    if args[0] == "--version":
        print(f"musicnet_tf {musicnet_tf.__version__}")
        return 0
    verb, rest = args[0].replace("-", "_"), [_in_home(arg) for arg in args[1:]]
    if verb not in verbs():
        return _refuse_verb(args[0])
    try:
        return _run(importlib.import_module(f"musicnet_tf.bin.{verb}"), verb, rest)
    except MusicNetError as error:
        _complain(f"musicnet {verb}", error)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        _complain(f"musicnet {verb}", f"needs {missing}: pip install 'musicnet_tf[{EXTRAS[missing]}]'")
        return 1
    except (app.UsageError, flags.Error) as error:
        _complain(f"musicnet {verb}", f"{_help.usage_error(error)} (see: musicnet {verb} --help)")
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"musicnet {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(module: ModuleType, verb: str, args: list[str]) -> int:
    options = args[: args.index("--")] if "--" in args else args
    if HELP & set(options):
        print(_help.of_verb(verb, module))
        return 0
    flags.FLAGS.set_gnu_getopt(True)  # files and flags in any order
    positional = _parse(verb, module, args)
    logging.use_absl_handler()
    return module.main(positional) or 0


def _parse(verb: str, module: ModuleType, args: list[str]) -> list[str]:
    try:
        return flags.FLAGS([f"musicnet {verb}", *args])
    except flags.UnrecognizedFlagError as error:
        from musicnet_tf.registry import nearest

        word, known = f"--{error.flagname}", [f"--{flag.name}" for flag in _help.flags_of(module)]
        raise app.UsageError(f"unknown flag {word}{nearest(word, known)}") from error


def _in_home(arg: str) -> str:
    """`--output_dir=~/notes` as `--output_dir ~/notes` would be: shells leave the first alone."""
    flag, equals, value = arg.partition("=")
    home = os.path.expanduser(value)  # noqa: PTH111  # a value need not be a path, which Path would rewrite
    return f"{flag}={home}" if equals and flag.startswith("--") else arg


def _refuse_verb(word: str) -> int:
    from musicnet_tf.registry import nearest

    choices = verbs()
    _complain("musicnet", f"unknown verb {word!r}{nearest(word.replace('-', '_'), choices)}")
    print(f"Choose from: {', '.join(choices)}", file=sys.stderr)
    return USAGE_ERROR


def _complain(who: str, what: object) -> None:
    print(f"{who}: error: {what}", file=sys.stderr)


def _quieten() -> None:
    """Keeps TensorFlow's start-up notices off the terminal; whoever wants them sets the variables.

    At level 2 every import still tells of cuFFT factories "already registered" as errors.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@contextlib.contextmanager
def _pipe_closed_by_reader() -> Iterator[list[int]]:
    """Ends quietly where the reader of our output (`| head`) has gone."""
    outcome: list[int] = []
    try:
        yield outcome
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        outcome[:] = [BROKEN_PIPE]


if __name__ == "__main__":
    sys.exit(main())
