"""Prompts of a pseudo-target, made of blocks that are data (DIDEX; blocks.json has the published).

A prompt is base, location, traffic, and the parts of its variant: a condition, the classes that the
label holds, and a rare class. The rare class evens the classes out over all images.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets import label_spaces
from utils.errors import UserError, unknown_name
from utils.seeding import stable_seed

PUBLISHED = Path(__file__).with_name("blocks.json")
PARTS = ("condition", "present", "rare")
DEFAULT = "rand_location_uni_cls_rand_cond"  # draws every block; which one the paper took is open


class Variant(NamedTuple):
    """What a prompt is made of.

    locations         one of them is drawn
    parts             of PARTS, in the order of the prompt
    always_semicolon  whether it stands behind the location also where there is no traffic
    classes           {class: what it is called in prompts}
    """

    locations: list[str]
    parts: list[str]
    always_semicolon: bool = False
    classes: dict[str, str] = {}


class Blocks(NamedTuple):
    """What prompts are drawn from; an empty entry of `traffic` is none."""

    base: str
    traffic: list[str]
    conditions: list[str]
    variants: dict[str, Variant]

    def choose(self, name: str | None) -> str:
        """Return the name of a variant: `name`, DEFAULT, or the only one there is.

        UserError for an unknown name, and where there are several and none is named.
        """
        if name is None and DEFAULT in self.variants:
            return DEFAULT
        if name is None and len(self.variants) > 1:
            raise UserError(f"choose one of several variants: --variant {', '.join(self.variants)}")
        if name is not None and name not in self.variants:
            raise unknown_name("variant of prompts", name, self.variants)
        return name or next(iter(self.variants))

    def choices(self, name: str, rare: Sequence[str]) -> dict[str, list[str]]:
        """Return what prompts of a variant are drawn from, by kind; `rare` are possible classes."""
        variant = self.variants[name]
        parts = {"condition": self.conditions, "rare": list(rare)}
        own = {"location": variant.locations, "traffic": self.traffic}
        return own | {kind: parts[kind] for kind in variant.parts if kind in parts}


class Prompt(NamedTuple):
    """The prompt of an image, the seed of its noise, and the blocks that were drawn."""

    file: str
    prompt: str
    seed: int
    variant: str = ""
    blocks: dict[str, str] = {}


def read_blocks(path: Path) -> Blocks:
    """Read a file of blocks; UserError names a key that is missing, unknown or of another type."""
    content = _read_json(path)
    blocks = Blocks(**_checked(content, Blocks, f"{path}"))
    for name, own in blocks.variants.items():
        where = f"{path}: variant {name}"
        variant = Variant(**_checked(own, Variant, where))
        for part in variant.parts:
            if part not in PARTS:
                raise unknown_name(f"part in {where}", part, PARTS)
        known = {text for space in label_spaces().values() for text in space.classes}
        for text in variant.classes.keys() - known:
            raise unknown_name(f"class in {where}", text, known)
        if not variant.locations:
            raise UserError(f"{where} has no location; an empty text is allowed")
        blocks.variants[name] = variant
    for key in ("traffic", "conditions", "variants"):
        if not getattr(blocks, key):
            raise UserError(f"{path}: {key} is empty")
    return blocks


def draw_prompts(
    blocks: Blocks,
    name: str,
    files: Sequence[str],
    present: np.ndarray,
    possible: np.ndarray,
    classes: Sequence[str],
    seed: int,
) -> list[Prompt]:
    """Draw the prompt of each file, in order.

    `present` bool [N, K] says which classes an image's label holds, `possible` bool [K] which the
    source has at all: others are no rare class. What is drawn for an image depends on `seed` and
    its file alone, but for the rare class, which depends on all images before.
    """
    variant = blocks.variants[name]
    # Names of classes that this source has not are for others.
    called = [variant.classes.get(name, name) for name in classes]
    rare = rare_classes(present, possible) if "rare" in variant.parts else [None] * len(files)
    prompts = []
    for file, own, extra in zip(files, present, rare, strict=True):
        rng = np.random.default_rng(stable_seed("prompt", seed, file))
        location, traffic, condition = (
            choices[rng.integers(len(choices))]
            for choices in (variant.locations, blocks.traffic, blocks.conditions)
        )
        texts = {"condition": [condition], "present": [called[c] for c in np.flatnonzero(own)]}
        drawn = {"location": location, "traffic": traffic}
        if "condition" in variant.parts:
            drawn["condition"] = condition
        if extra is not None:
            texts["rare"] = [called[extra]]
            drawn["rare"] = classes[extra]
        semicolon = ";" if traffic or variant.always_semicolon else ""
        place = f"{blocks.base}{location}{semicolon}{traffic}"
        prompt = ", ".join([place, *(text for part in variant.parts for text in texts[part])])
        prompts.append(Prompt(file, prompt, image_seed(seed, file), name, drawn))
    return prompts


def rare_classes(present: np.ndarray, possible: np.ndarray) -> list[int]:
    """Choose for each image the class that was named least so far ("uniform classes").

    The classes of its label count first, then the least named possible class, the first of equals,
    is chosen and counts too. `present` bool [N, K], `possible` bool [K].
    """
    named = np.zeros(present.shape[1], dtype=np.int64)
    never = np.iinfo(np.int64).max
    chosen = []
    for own in present:
        named += own
        chosen.append(int(np.where(possible, named, never).argmin()))
        named[chosen[-1]] += 1
    return chosen


def image_seed(seed: int, file: str) -> int:
    """Return the seed of all that is drawn for an image."""
    return stable_seed("pseudo-target", seed, file)


def own_prompts(path: Path, files: Sequence[str] | None, seed: int) -> list[Prompt]:
    """Read prompts of a user's own: lines of JSON with file, prompt and, if wanted, seed.

    They come in the order of `files`, the source's images; not each needs one. Without `files` all
    come, as they stand. UserError for a line that is none, names no image of the source, or names
    one a second time.
    """
    found: dict[str, Prompt] = {}
    for number, line in enumerate(_read_text(path).rstrip("\n").split("\n"), 1):
        prompt = _parsed(line, f"{path}, line {number}", seed)
        if prompt.file in found:
            raise UserError(f"{path}, line {number}: {prompt.file} has a prompt already")
        found[prompt.file] = prompt
    if files is None:
        return list(found.values())
    if unknown := found.keys() - set(files):
        raise UserError(
            f"{path} names {sorted(unknown)[0]}, which is no image of the source (such as "
            f"{files[0]})"
        )
    return [found[file] for file in files if file in found]


def _parsed(line: str, where: str, seed: int) -> Prompt:
    """Return the prompt of a line of JSON; UserError for one that is none."""
    try:
        own = json.loads(line)
        file, text, drawn = own["file"], own["prompt"], own.get("seed")
        variant, blocks = own.get("variant", ""), own.get("blocks", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f'{where}: expected {{"file": "NAME", "prompt": "TEXT"}}, found {line[:80]!r}'
        ) from None
    if not isinstance(blocks, dict):
        raise UserError(f"{where}: blocks is no object of texts")
    if not all(isinstance(each, str) for each in (file, text, variant, *blocks.values())):
        raise UserError(f"{where}: file, prompt, variant and blocks are texts")
    if drawn is not None and (type(drawn) is not int or not 0 <= drawn < 2**63):
        raise UserError(f"{where}: seed is {drawn!r}; it is a number from 0 to 2⁶³ - 1")
    return Prompt(file, text, image_seed(seed, file) if drawn is None else drawn, variant, blocks)


def lines_of(prompts: Sequence[Prompt]) -> bytes:
    """Return prompts as lines of JSON, which `own_prompts` reads."""
    return "".join(f"{json.dumps(prompt._asdict())}\n" for prompt in prompts).encode()


def plan(prompts: Sequence[Prompt], present: np.ndarray, classes: Sequence[str]) -> str:
    """Say how many images each block gets, and how often each class is in a label and named."""
    lines = [f"{len(prompts)} images"]
    for kind in ("location", "traffic", "condition"):
        counts = Counter(prompt.blocks[kind] for prompt in prompts if kind in prompt.blocks)
        if counts:
            lines += [
                f"{kind}:",
                *(f"{n:>8}  {text or '(none)'}" for text, n in counts.most_common()),
            ]
    rare = Counter(prompt.blocks.get("rare") for prompt in prompts)
    lines.append("class, images with it in the label, images with it as the rare class:")
    for name, number in zip(classes, present.sum(0), strict=True):
        lines.append(f"{number:>8}{rare[name]:>8}  {name}")
    lines.append("the first:")
    lines += [f"  {prompt.file}: {prompt.prompt}" for prompt in prompts[:3]]
    return "\n".join(lines)


def _checked(content: Any, kind: type, where: str) -> Mapping[str, Any]:
    """Return what a part of a file holds, if each key is a field of `kind` and of its type."""
    fields, defaults = kind.__annotations__, kind._field_defaults
    if not isinstance(content, dict):
        raise UserError(f"{where} is no object of {', '.join(fields)}")
    for key in content.keys() - fields.keys():
        raise unknown_name(f"key in {where}", key, fields)
    for key, expected in fields.items():
        if key not in content and key in defaults:
            continue
        if key not in content:
            raise UserError(f"{where} has no {key}")
        origin = getattr(expected, "__origin__", expected)
        value = content[key]
        texts = value if isinstance(value, list) else [*value.values()] if origin is dict else []
        inner = () if key == "variants" else texts
        if not isinstance(value, origin) or not all(isinstance(text, str) for text in inner):
            names = {str: "a text", bool: "true or false", list: "a list of texts"}
            raise UserError(f"{where}: {key} is not {names.get(origin, 'an object of texts')}")
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8") from None
