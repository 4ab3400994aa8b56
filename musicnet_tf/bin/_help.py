"""The texts that the `musicnet` command prints about itself."""

from __future__ import annotations

import re
import textwrap
from types import ModuleType

from absl import flags

WIDTH = 100
_VALUES = {"int": "INT", "float": "FLOAT", "string": "TEXT"}
_ADDED_BY_ABSL = re.compile(r"^<[^>]*>: |;\s*repeat this option to specify a list of values$")
_REQUIRED = re.compile(r"flag --(\w+)=None: .*must have a value other than None")


def overview(verbs: dict[str, str]) -> str:
    """The list of verbs, a line each."""
    width = max(map(len, verbs), default=0)
    lines = [f"  {name.ljust(width)}  {summary}".rstrip() for name, summary in verbs.items()]
    usage = "Usage: musicnet VERB [FILES] [--FLAGS]; musicnet VERB --help; musicnet --version"
    return "\n".join([usage, "", "Verbs:", *lines])


def of_verb(verb: str, module: ModuleType) -> str:
    """The verb's docstring and the flags that it defines itself, in their order."""
    parts = [(module.__doc__ or f"musicnet {verb}").strip()]
    own = flags_of(module)
    if own:
        parts.append("Flags:\n" + "\n".join(map(_flag, own)))
    return "\n\n".join(parts)


def flags_of(module: ModuleType) -> list[flags.Flag]:
    """The flags that a verb defines or declares key, in their order."""
    return flags.FLAGS.get_key_flags_for_module(module)


def usage_error(error: Exception) -> str:
    """What was wrong with the command line, in one line."""
    text = " ".join(str(error).split())
    required = _REQUIRED.search(text)
    return f"flag --{required[1]} is required" if required else text


def _flag(flag: flags.Flag) -> str:
    described = _ADDED_BY_ABSL.sub("", " ".join((flag.help or "").split()))
    notes = ["repeatable"] if isinstance(flag, flags.MultiFlag) else []
    if flag.default not in (None, "", [], False):
        notes.append(f"default: {_default(flag)}")
    if notes:
        described += f" ({'; '.join(notes)})"
    body = textwrap.fill(described, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {_form(flag)}\n{body}"


def _default(flag: flags.Flag) -> str:
    return (flag.default_as_str or "").strip("'\"")


def _form(flag: flags.Flag) -> str:
    if flag.boolean:
        return f"--[no]{flag.name}"
    if choices := getattr(flag.parser, "enum_values", None):
        return f"--{flag.name}={'|'.join(map(str, choices))}"
    kind = flag.flag_type()
    value = "A,B,…" if "comma" in kind else _VALUES.get(kind.removeprefix("multi "), "VALUE")
    return f"--{flag.name}={value}"
