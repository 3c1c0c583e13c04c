"""Settings as data: what one is, and how trees of them are joined, resolved, read and shown."""

import argparse
import copy
import difflib
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from easydict import EasyDict

from utils.errors import UserError

# Names that cameras give, in capitals like the keys of settings.
MEDIA = re.compile(r"\.(JPE?G|PNG|TIFF?|WEBP|BMP|MP4|MOV|AVI|MKV|PTH)$")


class Setting(NamedTuple):
    """Default value (its type is the setting's type), meaning, and what is accepted.

    `choices` lists the values, if they are few. Numbers, also those in a list, are finite and lie
    between `minimum` and `maximum`. A list has at `least` so many entries; without that, several
    numbers keep their length.
    """

    default: Any
    meaning: str
    choices: tuple = ()
    minimum: float = 0
    maximum: float = math.inf
    least: int = 0


def walk(settings: dict, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield (dotted key, Setting) for each leaf of a settings tree, in order."""
    for name, value in settings.items():
        if isinstance(value, Setting):
            yield prefix + name, value
        else:
            yield from walk(value, f"{prefix}{name}.")


def merge(*trees: dict) -> dict:
    """Join settings trees; a key that two of them declare is an error of the programmer."""
    merged: dict = {}
    for tree in trees:
        for name, value in tree.items():
            if isinstance(value, Setting):
                if name in merged:
                    raise KeyError(f"setting {name} is declared twice")
                merged[name] = value
            else:
                merged[name] = merge(merged.get(name, {}), value)
    return merged


def load(
    overrides: Mapping[str, Any], *trees: dict, defaults: Mapping[str, Any] | None = None
) -> EasyDict:
    """Resolve the settings that `trees` declare: their defaults, then `overrides`.

    `defaults` replaces the default of some keys (the chosen decoder may not have all of them);
    `overrides` maps dotted keys to text (from a command line) or to values (from a checkpoint).
    Raises UserError for an unknown key, naming the closest one, and for a value of another type.
    """
    known = dict(walk(merge(*trees)))
    unknown = [key for key in overrides if key not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0].upper(), known, n=1, cutoff=0.3)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"unknown setting {unknown[0]}{hint} (python config.py lists the settings; each method "
            "and decoder has its own beside the shared ones)"
        )
    values = {key: copy.deepcopy(setting.default) for key, setting in known.items()}
    for given in (defaults or {}, overrides):
        values |= {k: convert(k, v, known[k]) for k, v in given.items() if k in known}
    cfg = EasyDict()
    for key in known:
        *path, leaf = key.split(".")
        branch = cfg
        for name in path:
            branch = branch.setdefault(name, EasyDict())
        branch[leaf] = values[key]
    return cfg


def flatten(cfg: dict, prefix: str = "") -> dict[str, Any]:
    """Turn a resolved settings tree into {dotted key: plain value}, as checkpoints store it."""
    flat: dict[str, Any] = {}
    for name, value in cfg.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def split(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
    allowed: Sequence[str] = (),
) -> tuple[argparse.Namespace, dict[str, str]]:
    """Part a command line into what `parser` reads and KEY VALUE pairs, which it returns by key.

    A key is a word in capitals, unless it stands right behind a flag that takes a value, names a
    file that is there, or ends like the name of a picture or video (`DSC_0002.JPG`). Pairs may come
    anywhere, also behind a flag that takes a list (`--dataset gtav TRAIN.MAX_ITER 5`). The last
    value of a repeated key counts, so arguments that a recipe passes on override its own.
    `allowed` are the keys of a command that takes few; then a word without a dot is no other key.
    UserError for a key without a value or that is not allowed, and for an unknown flag.
    """
    actions = parser._actions
    wants_value = {s for a in actions if a.nargs not in (0, "?") for s in a.option_strings}
    words = iter(sys.argv[1:] if arguments is None else arguments)
    rest: list[str] = []
    pairs: dict[str, str] = {}
    for word in words:
        other = bool(allowed) and word not in allowed
        if _is_key(word) and not (rest and rest[-1] in wants_value) and ("." in word or not other):
            if other:
                raise UserError(f"setting {word} has no effect here; {', '.join(allowed)} have one")
            value = next(words, None)
            if value is None:
                raise UserError(f"settings are KEY VALUE pairs; {word!r} has no value")
            pairs[word] = value
        else:
            rest.append(word)
    options, unknown = parser.parse_known_intermixed_args(rest)
    if unknown:
        raise UserError(
            f"unknown option {unknown[0]}; settings are KEY VALUE pairs with the key in capitals, "
            "and --help lists the flags"
        )
    return options, pairs


def _is_key(word: str) -> bool:
    named = re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)*", word)
    return bool(named) and not MEDIA.search(word) and not os.path.exists(word)


def convert(key: str, value: Any, setting: Setting) -> Any:
    """Bring `value` to the type of the setting's default, or raise UserError."""
    default = setting.default
    if isinstance(default, list):
        items = value
        if isinstance(value, str):
            items = [item.strip() for item in value.strip("[]() ").split(",") if item.strip()]
        if not isinstance(items, (list, tuple)):
            raise _wrong_type(key, value, "a comma-separated list")
        # A list of numbers has meaning by position; a list of names has not.
        fixed = len(default) > 1 and not isinstance(default[0], str) and not setting.least
        if fixed and len(items) != len(default):
            raise _wrong_type(key, value, f"{len(default)} comma-separated numbers")
        if len(items) < setting.least:
            raise _wrong_type(key, value, f"at least {setting.least} of them, separated by commas")
        element = setting._replace(default=default[0] if default else "")
        return [convert(key, item, element) for item in items]
    if isinstance(default, bool):
        words = {"true": True, "on": True, "yes": True, "1": True}
        words |= {"false": False, "off": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise _wrong_type(key, value, "true or false")
        converted: Any = words[str(value).lower()]
    elif isinstance(default, str):
        converted = str(value)
        if any(unicodedata.category(letter) == "Cc" for letter in converted):
            raise _wrong_type(key, value, "text without control characters")
    else:
        try:
            converted = type(default)(value)
        except (TypeError, ValueError, OverflowError):
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise _wrong_type(key, value, kind) from None
        if isinstance(default, int) and isinstance(value, float) and converted != value:
            raise _wrong_type(key, value, "a whole number")
    if isinstance(converted, int) and abs(converted) >= 2**63:
        raise _wrong_type(key, value, "a whole number of 64 bits")
    if isinstance(converted, float) and not math.isfinite(converted):
        raise _wrong_type(key, value, "a finite number")
    if isinstance(converted, (int, float)) and not (
        setting.minimum <= converted <= setting.maximum
    ):
        limit = f"at least {setting.minimum:g}"
        if setting.maximum < math.inf:
            limit = f"between {setting.minimum:g} and {setting.maximum:g}"
        raise _wrong_type(key, value, limit)
    if setting.choices and converted not in setting.choices:
        raise _wrong_type(key, value, "one of " + ", ".join(map(str, setting.choices)))
    return converted


def _wrong_type(key: str, value: Any, expected: str) -> UserError:
    shown = repr(value) if len(repr(value)) < 60 else repr(value)[:56] + " …"
    return UserError(f"setting {key} is {shown}; expected {expected}")


def describe(settings: dict, defaults: Mapping[str, Any] | None = None) -> str:
    """Return the list of settings as text: key, default (that of `defaults` if it has one),
    meaning, choices."""
    lines = []
    for key, (default, meaning, choices, *_) in walk(settings):
        default = (defaults or {}).get(key, default)
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        options = f" [{' | '.join(map(str, choices))}]" if choices else ""
        lines.append(f"{key} = {shown}\n    {meaning}{options}")
    return "\n".join(lines)
