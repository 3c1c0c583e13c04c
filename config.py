"""Every shared setting with its default and one line of meaning.

`python config.py [--method NAME] [--decoder NAME]` prints this list together with the settings that
a method and a decoder declare in their own files. A setting is changed on the command line of
`train.py` by `KEY VALUE` pairs (`TRAIN.MAX_ITER 60000`); `load` refuses unknown keys and values of
another type than the default's.
"""

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from easydict import EasyDict

from utils.errors import UserError


class Setting(NamedTuple):
    """Default value (its type is the setting's type), meaning, and what is accepted: a few values,
    or numbers (of a list: each) from `minimum` to `maximum`."""

    default: Any
    meaning: str
    choices: tuple = ()
    minimum: float = -math.inf
    maximum: float = math.inf


SETTINGS = {
    "METHOD": Setting("srha", "training method, a name of network/methods (flag --method)"),
    "EXPERIMENT": Setting("", "name of the experiment folder below LOG.DIR (flag --exp)"),
    "INIT": Setting("", "checkpoint whose weights training starts from (flag --init)"),
    "INIT_PARTS": Setting(
        ["trunk", "decoder"], "parts of the method that INIT fills: trunk, decoder, teacher …"
    ),
    "SEED": Setting(304, "seed of initialisation, sample order, augmentation and training steps"),
    "DEVICE": Setting(
        "auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "cuda")
    ),
    "PRECISION": Setting(
        "float32",
        "arithmetic of the forward pass; bfloat16 is autocast, losses and statistics stay float32",
        choices=("float32", "bfloat16"),
    ),
    "CHANNELS_LAST": Setting(True, "memory layout NHWC, faster on CPUs and on GPUs in bfloat16"),
    "DETERMINISTIC": Setting(
        False,
        "two runs on one machine are equal to the last bit; slower on GPUs, and an error where an "
        "operation has no such form there (docs/running.md)",
    ),
    "COMPILE": Setting(False, "compile trunk and decoder: minutes at the start, faster on GPUs"),
    "WORKERS": Setting(4, "data loading processes of each training process", minimum=0),
    "DATASET": {
        "SOURCE": Setting(["gtav"], "training datasets (flag --dataset)"),
        "MIXING": Setting(
            "equal",
            "how batches are made of several sources: equal parts of each, or in proportion to "
            "their numbers of images",
            choices=("equal", "proportional"),
        ),
        "VALIDATION": Setting(
            ["cityscapes", "bdd100k", "mapillary"],
            "datasets judged during training, NAME or NAME:SPLIT (flag --val_dataset)",
        ),
        "LABEL_SPACE": Setting(
            "", "classes that are trained; empty: those of the sources, which have to agree then"
        ),
        "ROOT": Setting("", "folder that holds one folder for each dataset under its usual name"),
        "GTAV_DIR": Setting(
            "", "root of GTAV; empty: ROOT/GTAV, then the environment variable GTAV_DIR"
        ),
        "SYNTHIA_DIR": Setting(
            "", "root of SYNTHIA-RAND-CITYSCAPES; then ROOT/SYNTHIA, then $SYNTHIA_DIR"
        ),
        "CITYSCAPES_DIR": Setting(
            "", "root of Cityscapes; then ROOT/Cityscapes, then $CITYSCAPES_DIR"
        ),
        "BDD_DIR": Setting("", "root of BDD100K; then ROOT/BDD100K, then $BDD_DIR"),
        "MAPILLARY_DIR": Setting(
            "", "root of Mapillary Vistas; then ROOT/Mapillary, then $MAPILLARY_DIR"
        ),
        "MAPILLARY_LABEL_MAP": Setting(
            "robustnet",
            "table from Mapillary's numbers to the 19 classes; openseg has more kinds of road, "
            "pole and sign",
            choices=("robustnet", "openseg"),
        ),
        "IDD_DIR": Setting("", "root of IDD (India Driving Dataset); then ROOT/IDD"),
        "ACDC_DIR": Setting("", "root of ACDC, for acdc and each of its conditions; ROOT/ACDC"),
        "CAMVID_DIR": Setting(
            "", "root of CamVid (SegNet release); then ROOT/camvid, then $CAMVID_DIR"
        ),
        "IDD_LITE_DIR": Setting("", "root of IDD-Lite; then ROOT/idd_lite, then $IDD_LITE_DIR"),
        "CLASS_UNIFORM_FRACTION": Setting(
            0.5,
            "share of an epoch's crops drawn around class centroids; 0 switches it off",
            minimum=0,
            maximum=1,
        ),
        "CLASS_UNIFORM_TILE": Setting(
            1024, "pixels; side of the label tiles that give centroids", minimum=1
        ),
        "CACHE_DIR": Setting("cache", "folder for class centroids, which are computed once"),
    },
    "TRANSFORM": {
        "SCALE": Setting([0.5, 2.0], "range of the random scale", minimum=0.01),
        "CROP_SIZE": Setting([768, 768], "pixels, height and width of a training crop", minimum=1),
        "FLIP": Setting(0.5, "probability of a horizontal flip", minimum=0, maximum=1),
        "JITTER": Setting([0.4, 0.4, 0.4, 0.1], "brightness, contrast, saturation, hue", minimum=0),
        "JITTER_PROBABILITY": Setting(0.5, "probability of colour jitter", minimum=0, maximum=1),
        "BLUR_SIGMA": Setting([0.15, 1.3], "pixels, range of the Gaussian blur", minimum=0.01),
        "BLUR_PROBABILITY": Setting(
            1.0, "probability of blur (published: always)", minimum=0, maximum=1
        ),
        "PHOTOMETRIC_ON": Setting(
            "auto",
            "who applies jitter and blur: the data loading workers, or the device that trains "
            "(auto: the device where it is a GPU)",
            choices=("auto", "worker", "device"),
        ),
    },
    "TRUNK": {
        "NAME": Setting("resnet50", "backbone, a name of network/trunks (flag --trunk)"),
        "OUTPUT_STRIDE": Setting(16, "stride of layer 4", choices=(8, 16, 32)),
        "RECOMPUTE": Setting(
            [False, False, False, False],
            "layers 1-4 whose activations are computed again in the backward pass, which saves "
            "memory and costs one forward pass of them",
        ),
        "WEIGHTS": Setting(
            "imagenet",
            "imagenet (torchvision's IMAGENET1K_V1), none, a path to a state dict, or objects (the "
            "stand-in for resnet_mini)",
        ),
    },
    "DECODER": {
        "NAME": Setting("deeplabv3plus", "decoder, a name of network/decoders (flag --decoder)"),
    },
    "TRAIN": {
        "MAX_ITER": Setting(60000, "optimizer steps", minimum=1),
        "BATCH_SIZE": Setting(8, "images in an optimizer step, over all processes", minimum=1),
        "BATCH_PER_PROCESS": Setting(
            4,
            "at most so many images in one forward pass; the rest of the batch is accumulated",
            minimum=1,
        ),
        "LR_ENCODER": Setting(0.005, "learning rate of the trunk", minimum=0),
        "LR_DECODER": Setting(0.01, "learning rate of everything else", minimum=0),
        "OPTIMIZER": Setting("sgd", "optimizer", choices=("sgd", "adamw")),
        "MOMENTUM": Setting(0.9, "of SGD"),
        "WEIGHT_DECAY": Setting(5e-4, "of everything trained but what NO_DECAY names"),
        "NO_DECAY": Setting(
            [],
            "parameters without weight decay, any of norms, embeddings, biases (SRHA as published: "
            "none)",
            choices=("norms", "embeddings", "biases"),
        ),
        "POLY_POWER": Setting(0.9, "both rates fall by (1 - step / MAX_ITER) ** POLY_POWER"),
        "CLIP_NORM": Setting(
            0.0, "gradients are scaled down to this total L2 norm; 0: never", minimum=0
        ),
        "SYNC_BATCH_NORM": Setting(True, "batch statistics over all GPUs"),
    },
    "VALID": {
        "PROTOCOL": Setting(
            "robustnet",
            "sizes at which datasets are judged, see transforms/protocols.py (flag --protocol)",
            choices=("robustnet", "native", "openseg"),
        ),
        "SCALES": Setting(
            [1.0], "average predictions over these scales (flag --scales)", minimum=0.01
        ),
        "FLIP": Setting(False, "average with the prediction of the mirrored image (flag --flip)"),
        "SLIDING": Setting(
            [0, 0],
            "crop and stride in pixels of sliding windows, 0: whole images (flag --sliding)",
            minimum=0,
        ),
        "MAX_PIXELS": Setting(
            16_000_000,
            "an image of which the network would see more pixels at once is an error, because its "
            "memory grows with them; 0: any size",
            minimum=0,
        ),
        "EVERY": Setting(
            5000, "steps between validations, 0: none; the last step is always judged", minimum=0
        ),
        "BEST_ON": Setting(
            "",
            "judged domain whose mIoU chooses best.pth; empty: the mean over the validation splits "
            "of the sources. An unseen domain makes the choice an oracle",
        ),
        "BATCH_SIZE": Setting(1, "images of equal size in one evaluation pass", minimum=1),
        "MAX_IMAGES": Setting(
            0, "judge only so many images of each domain while training; 0: all", minimum=0
        ),
    },
    "LOG": {
        "DIR": Setting("logs", "folder of the experiment folders"),
        "EVERY": Setting(50, "steps between log entries", minimum=1),
        "PICTURES_EVERY": Setting(
            2000, "steps between prediction pictures in TensorBoard; 0: none", minimum=0
        ),
        "CHECKPOINT_EVERY": Setting(1000, "steps between checkpoints", minimum=1),
    },
}


def walk(settings: dict, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield (dotted key, Setting) for each leaf of a settings tree, in order."""
    for name, value in settings.items():
        if isinstance(value, Setting):
            yield prefix + name, value
        else:
            yield from walk(value, f"{prefix}{name}.")


def merge(*trees: dict) -> dict:
    """Join settings trees; the same key in two of them is an error of the programmer."""
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
    overrides: dict[str, Any], *declared: dict, defaults: Mapping[str, Any] | None = None
) -> EasyDict:
    """Resolve settings: the defaults of SETTINGS and of the `declared` trees, then `overrides`.

    `defaults` has other ones for some keys (of which the chosen decoder may not have all);
    `overrides` maps dotted keys to text (from a command line) or to values (from a checkpoint).
    Raises UserError for an unknown key, naming the closest one, and for a value of another type.
    """
    known = dict(walk(merge(SETTINGS, *declared)))
    unknown = [key for key in overrides if key not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0].upper(), known, n=1, cutoff=0.3)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"unknown setting {unknown[0]}{hint} (python config.py lists the settings; each method "
            "and decoder has its own beside the shared ones)"
        )
    cfg = EasyDict()
    for key, setting in known.items():
        value = copy.deepcopy(setting.default)
        for source in (defaults or {}, overrides):
            if key in source:
                value = _convert(key, source[key], setting)
        *path, leaf = key.split(".")
        branch = cfg
        for name in path:
            branch = branch.setdefault(name, EasyDict())
        branch[leaf] = value
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


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Read `KEY VALUE KEY VALUE …` into {key: text}; the last of a repeated key counts, so that
    arguments passed on to a recipe override it."""
    if len(pairs) % 2:
        raise UserError(f"settings are KEY VALUE pairs; {pairs[-1]!r} has no value")
    return dict(zip(pairs[0::2], pairs[1::2], strict=True))


def _convert(key: str, value: Any, setting: Setting) -> Any:
    """Bring `value` to the type of the setting's default, or raise UserError."""
    default = setting.default
    if isinstance(default, list):
        items = value
        if isinstance(value, str):
            items = [item.strip() for item in value.strip("[]() ").split(",") if item.strip()]
        if not isinstance(items, (list, tuple)):
            raise _wrong_type(key, value, "a comma-separated list")
        # A list of numbers has a fixed length and meaning by position; a list of names does not.
        if len(default) > 1 and not isinstance(default[0], str) and len(items) != len(default):
            raise _wrong_type(key, value, f"{len(default)} comma-separated numbers")
        element = setting._replace(default=default[0] if default else "")
        return [_convert(key, item, element) for item in items]
    if isinstance(default, bool):
        words = {"true": True, "on": True, "yes": True, "1": True}
        words |= {"false": False, "off": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise _wrong_type(key, value, "true or false")
        converted: Any = words[str(value).lower()]
    elif isinstance(default, str):
        converted = str(value)
    else:
        try:
            converted = type(default)(value)
        except (TypeError, ValueError):
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise _wrong_type(key, value, kind) from None
        if isinstance(default, int) and isinstance(value, float) and converted != value:
            raise _wrong_type(key, value, "a whole number")
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
    return UserError(f"setting {key} is {value!r}; expected {expected}")


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


if __name__ == "__main__":
    from utils.engine.command_line import print_settings
    from utils.errors import run_script

    run_script(print_settings)
