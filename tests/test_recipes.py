"""Recipe scripts: what they set, and that two of them run (DRY_RUN=1 on a few drawn images)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks import recipes
from network.build import DECODER, resolve
from network.decoders import decoder_class
from utils.engine.command_line import parse_train

ROOT = Path(__file__).parent.parent
UNSEEN = ["cityscapes", "bdd100k", "mapillary"]


class Published(NamedTuple):
    """What a train_* script is to say, and the script that evaluates its checkpoint."""

    valid: str
    trunk: str
    sources: list[str]
    domains: list[str]
    iterations: int
    batch: int
    per_process: int
    rates: tuple[float, float] = (0.005, 0.01)
    decoder: str = "deeplabv3plus"


def spc(*sources):
    """SPC's recipes: 4 images of each domain and GPU, on 2 GPUs."""
    name = f"r50os16_{'_'.join(sources)}_spc"
    numbers = (40000, 8 * len(sources), 4 * len(sources), (0.01, 0.01))
    return {name: Published(name, "resnet50", list(sources), UNSEEN, *numbers)}


RECIPES = {
    f"{recipe.valid}_srha": recipe
    for recipe in (
        Published("r50os16_gtav", "resnet50", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("r101os16_gtav", "resnet101", ["gtav"], UNSEEN, 60000, 9, 3),
        Published("shuffle_gtav", "shufflenet_v2_x1_0", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("mobile_gtav", "mobilenet_v2", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("r50os16_city", "resnet50", ["cityscapes"], ["bdd100k", "synthia", "gtav"],
                  120000, 8, 4),
        Published("r50m2f_gtav", "resnet50", ["gtav"], UNSEEN, 120000, 8, 2, (1e-5, 1e-4),
                  "mask2former"),
    )
} | spc("gtav") | spc("gtav", "synthia") | spc("gtav", "synthia", "idd")  # fmt: skip


TRUNKS = {"r50os16": "resnet50", "r101os16": "resnet101", "mobile": "mobilenet_v2",
          "shuffle": "shufflenet_v2_x1_0"}  # fmt: skip


def robustnet(network, source, method, batch, per_process):
    """A recipe of RobustNet's code: one rate, 40 000 iterations."""
    gtav = source == "gtav"
    domains = UNSEEN if gtav else ["bdd100k", "mapillary", "gtav"]
    valid = f"{network}_{source}" + ("" if gtav else "_robustnet")
    sources = [source if gtav else "cityscapes"]
    numbers = (40000, batch, per_process, (0.01, 0.01))
    return {f"{network}_{source}_{method}": Published(valid, TRUNKS[network], sources, domains,
                                                      *numbers)}  # fmt: skip


RESNETS = {"robustnet_base": 4, "ibn": 4, "isw": 4}
PER_GPU = {"r50os16": RESNETS, "r101os16": RESNETS, "mobile": RESNETS | {"robustnet_base": 8,
           "ibn": 8}, "shuffle": dict.fromkeys(RESNETS, 8)}  # fmt: skip
for network, numbers in PER_GPU.items():
    for method, images in numbers.items():
        RECIPES |= robustnet(network, "gtav", method, 16, images)
for method in RESNETS:
    RECIPES |= robustnet("r50os16", "city", method, 8, 4)
RECIPES |= robustnet("r50os16", "gtav", "shade", 8, 4)
for name, recipe in robustnet("r50os16", "gtav", "wildnet", 8, 4).items():
    RECIPES[name] = recipe._replace(iterations=60000, rates=(0.0025, 0.0025))


def pinthemem(sources, method, iterations):
    """A recipe of PinTheMem's code: 4 images of each source, on one GPU."""
    images = 4 * len(sources)
    name, valid = f"r50os16_{'_'.join(sources)}_{method}", f"r50os16_{'_'.join(sources)}_spc"
    valid = "r50os16_gtav" if sources == ["gtav", "gtav"] else valid
    numbers = (iterations, images, images, (0.01, 0.01))
    return {name: Published(valid, "resnet50", sources, UNSEEN, *numbers)}


LENGTHS = {"gtav synthia": 30463, "gtav gtav": 23033, "gtav synthia idd": 112193}
for method in ("mldg", "pinmem"):
    for names, steps in LENGTHS.items():
        RECIPES |= pinthemem(names.split(), method, steps)
# What ISW has of its own: weight, clusters.
ISW = {"r50os16_gtav_isw": (0.6, 3), "r101os16_gtav_isw": (0.6, 3), "mobile_gtav_isw": (1.0, 20),
       "shuffle_gtav_isw": (0.8, 2), "r50os16_city_isw": (0.6, 2)}  # fmt: skip

FOUNDATION = {
    f"dinov2{size}_gtav_{own}": (size, own)
    for size in "ls"
    for own in ("rein", "soma", "lora", "frozen", "soma_srha")
}
SAN_SAW = "r50dlv2_gtav_san_saw"  # of another network, input and batch
METHODS = ("dacs", "daformer", "hrda", "mic", "sepico")
DIDEX = {
    f"{network}_gtav_didex_{method}": (network, method)
    for network in ("r101dlv2", "mitb5")
    for method in METHODS[network == "mitb5" :]
}
# By method: the box of source and target images, the crop, the protocol.
SIZES = dict.fromkeys(METHODS, ([1280, 720], [1024, 512], [512, 512], "daformer"))
SIZES |= dict.fromkeys(("hrda", "mic"), ([2560, 1440], [2048, 1024], [1024, 1024], "hrda"))
SIZES["sepico"] = ([1280, 720], [1280, 640], [640, 640], "sepico")


def run(script, miniature, *arguments, **environment):
    settings = {"DRY_RUN": "1", "MINIATURE": str(miniature), "PYTHON": sys.executable}
    # Trained and evaluated as with requirements.txt alone.
    settings["PYTHONPATH"] = str(ROOT / "tests" / "without_matplotlib")
    return subprocess.run(
        ["sh", f"scripts/{script}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def handed_over():
    """Return `handed_over(script, *arguments, **environment)` → the words that a script hands to
    Python."""
    return lambda script, *words, **own: recipes.handed_over(Path(script).stem, *words, **own)


def test_every_script_is_a_recipe_of_this_list():
    scripts = {path.stem.removeprefix("train_") for path in ROOT.glob("scripts/train_*.sh")}
    assert scripts == set(RECIPES) | set(DIDEX) | set(FOUNDATION) | {SAN_SAW}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("other", ["", "baseline"])
def test_published_settings(name, other, handed_over):
    """The settings that a recipe comes to, with its own method and with another one."""
    recipe = RECIPES[name]
    baseline = name.endswith("_robustnet_base")
    common = name.removesuffix("_robustnet_base") if baseline else name.rpartition("_")[0]
    method = other or ("baseline" if baseline else name.rpartition("_")[2])
    # Names of what another recipe trains in other ways.
    other_names = {name: f"{name}_{method}" for name in ("shade", "wildnet")}
    other_names |= {"isw": "robustnet_base", "ibn": "robustnet_base"}
    other_names |= dict.fromkeys(("mldg", "pinmem"), f"pinthemem_{method}")
    own = name.removeprefix(f"{common}_")
    changed = other_names.get(own, method) if other else own
    experiment = f"{common}_{own if baseline else changed}"
    script, *words = handed_over(f"train_{name}.sh", "SEED", "7", METHOD=other)
    overrides, resume, *_ = parse_train(words)
    cfg = resolve(overrides)
    assert script == "train.py" and not resume
    assert cfg.EXPERIMENT == experiment and cfg.METHOD == method and cfg.SEED == 7
    # A source that comes twice does so for methods that take sources apart.
    once = list(dict.fromkeys(recipe.sources))
    assert (
        cfg.DATASET.SOURCE == (once if other else recipe.sources)
        and cfg.DATASET.VALIDATION == recipe.domains
    )
    assert cfg.TRUNK.NAME == recipe.trunk and cfg.TRUNK.OUTPUT_STRIDE == 16
    assert cfg.TRUNK.WEIGHTS == "imagenet" and cfg.DECODER.NAME == recipe.decoder
    defaults = decoder_class(recipe.decoder).defaults
    assert cfg.TRAIN.OPTIMIZER == defaults.get("TRAIN.OPTIMIZER", "sgd")
    assert cfg.TRAIN.MAX_ITER == recipe.iterations
    # The baseline in place of MobileNetV2's ISW is that of its own recipe.
    images = 8 if other and name == "mobile_gtav_isw" else recipe.per_process
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS) == (recipe.batch, images)
    assert (cfg.TRAIN.LR_ENCODER, cfg.TRAIN.LR_DECODER) == recipe.rates
    assert cfg.TRANSFORM.CROP_SIZE == [768, 768] and cfg.VALID.PROTOCOL == "robustnet"
    # Beyond these a recipe changes nothing.
    given = "DATASET.SOURCE DATASET.VALIDATION METHOD TRUNK.NAME EXPERIMENT TRUNK.OUTPUT_STRIDE "
    given += "TRAIN.MAX_ITER TRAIN.BATCH_SIZE TRAIN.BATCH_PER_PROCESS TRAIN.LR_ENCODER "
    given += "TRAIN.LR_DECODER TRANSFORM.CROP_SIZE SEED"
    further = {"DECODER.NAME"} if recipe.decoder != DECODER.default() else set()
    if method == "isw":
        further |= {"WHITENING.WEIGHT", "ISW.CLUSTERS"}
        assert (cfg.WHITENING.WEIGHT, cfg.ISW.CLUSTERS) == ISW[name]
        options = cfg.ISW
        assert (options.START_EPOCH, options.TRIALS, options.IMAGES) == (6, 10, 500)
        assert options.JITTER == [0.8, 0.8, 0.8, 0.3]
    if own in ("mldg", "pinmem"):
        further |= {"DATASET.SAMPLING", "TRAIN.SCHEDULE"}
        assert (cfg.DATASET.SAMPLING, cfg.TRAIN.SCHEDULE) == ("random", "exp")
        assert (cfg.TRAIN.EXP_RATE, cfg.TRAIN.EXP_SPAN) == (9, 120_000)
    assert overrides.keys() == set(given.split()) | further


@pytest.mark.parametrize(("source", "iw", "irw"), [("gtav", 0.8, 64), ("city", 0.6, 32)])
def test_other_whitening_in_its_place(source, iw, irw, handed_over):
    cfgs = [
        resolve(parse_train(handed_over(f"train_r50os16_{source}_isw.sh", METHOD=m)[1:])[0])
        for m in ("iw", "irw")
    ]
    assert [cfg.EXPERIMENT for cfg in cfgs] == [f"r50os16_{source}_{m}" for m in ("iw", "irw")]
    assert (cfgs[0].WHITENING.WEIGHT, cfgs[1].IRW.RELAXATION) == (iw, irw)
    assert cfgs[1].WHITENING.WEIGHT == 0.6


@pytest.mark.parametrize("method", ["san_saw", "baseline"])
def test_published_settings_of_san_saw(method, handed_over):
    _, *words = handed_over(f"train_{SAN_SAW}.sh", METHOD=method)
    cfg = resolve(parse_train(words)[0])
    assert (cfg.METHOD, cfg.EXPERIMENT) == (method, f"r50dlv2_gtav_{method}")
    chosen = (cfg.TRUNK.NAME, cfg.DECODER.NAME, cfg.TRUNK.OUTPUT_STRIDE, cfg.DATASET.SAMPLING)
    assert chosen == ("resnet50", "deeplabv2", 8, "random")
    train, options = cfg.TRAIN, cfg.TRANSFORM
    assert (train.LR_ENCODER, train.LR_DECODER, train.MAX_ITER) == (5e-4, 5e-3, 200_000)
    assert (train.BATCH_SIZE, train.BATCH_PER_PROCESS, train.SCHEDULE) == (2, 2, "poly")
    assert (options.CROP_SIZE, options.SCALE) == ([640, 640], [0.61, 0.67])
    assert (options.JITTER, options.JITTER_PROBABILITY) == ([0.5, 0.2, 0.2, 0.3], 0.5)
    assert (options.BLUR_SIGMA, options.BLUR_PROBABILITY) == ([0.01, 1], 0.5)
    if method == "san_saw":
        assert cfg.SAN.CLASSES == [0, 10, 2, 1, 8] and cfg.SAN.REGION == "none"
        assert (cfg.SAN.WEIGHT, cfg.SAN.CLASSIFIER_WEIGHT, cfg.SAW.WEIGHT) == (0.1, 0.1, 0)
    script, *words = handed_over("valid_r50dlv2_gtav.sh", "/some.pth")
    assert words == ["--snapshot", "/some.pth", "--val_dataset", *UNSEEN]


@pytest.mark.parametrize("name", DIDEX)
def test_published_settings_of_self_training(name, handed_over):
    network, method = DIDEX[name]
    _, *words = handed_over(f"train_{name}.sh", "DATASET.TARGET", "photos")
    cfg = resolve(parse_train(words)[0])
    assert (cfg.METHOD, cfg.DATASET.TARGET, cfg.EXPERIMENT) == (method, "photos", name)
    own = (cfg.TRANSFORM.BOX, cfg.TARGET.BOX, cfg.TRANSFORM.CROP_SIZE, cfg.VALID.PROTOCOL)
    assert own == SIZES[method]
    chosen = (cfg.TRUNK.NAME, cfg.DECODER.NAME, cfg.TRUNK.OUTPUT_STRIDE, *cfg.TRAIN.NO_DECAY)
    networks = {"r101dlv2": ("resnet101", "deeplabv2", 8)}
    assert chosen == networks.get(network, ("mit_b5", "daformer", 32, "named"))
    train = cfg.TRAIN
    assert (train.OPTIMIZER, train.LR_ENCODER, train.LR_DECODER) == ("adamw", 6e-5, 6e-4)
    assert (train.WEIGHT_DECAY, train.POLY_POWER, train.WARMUP) == (0.01, 1, 1500)
    assert (train.MAX_ITER, train.BATCH_SIZE, train.BATCH_PER_PROCESS) == (40000, 2, 2)
    assert train.CLIP_NORM == 0 and cfg.PRECISION == "float32"
    options = cfg.TRANSFORM
    assert (options.SCALE, options.FLIP, options.MAX_CLASS_SHARE) == ([1, 1], 0.5, 0.75)
    assert options.JITTER_PROBABILITY == options.BLUR_PROBABILITY == 0
    data, two_scales = cfg.DATASET, method in ("hrda", "mic")
    assert data.SAMPLING == ("random" if method == "dacs" else "rare_class")
    assert (data.RARE_CLASS_TEMPERATURE, data.RARE_CLASS_PIXELS) == (0.01, 3000)
    assert data.RARE_CLASS_CROP_PIXELS == (6000 if two_scales else 1500)
    assert cfg.TEACHER.ALPHA == (0.99 if method == "dacs" else 0.999)
    assert cfg.TEACHER.THRESHOLD == 0.968 and cfg.VOID_COUNTS and not cfg.MIX.OWN_CLASSES
    assert cfg.FEATURE_DISTANCE.WEIGHT == (0 if method in ("dacs", "sepico") else 0.005)
    assert cfg.HRDA.DETAIL == ([512, 512] if two_scales else [0, 0])
    assert (cfg.MASK.WEIGHT, cfg.MASK.BLOCK, cfg.MASK.RATIO) == (method == "mic", 64, 0.7)
    contrast = cfg.CONTRAST
    assert (contrast.WEIGHT, contrast.START) == (method == "sepico", 3000)
    if method == "sepico":
        assert cfg.TARGET.CROP_SIZE == [640, 1164] and cfg.STRONG.SOURCE
        layers = {"r101dlv2": ([4], 2048), "mitb5": ([1, 2, 3, 4], 256)}[network]
        assert (contrast.LAYERS, contrast.HIDDEN) == layers
        assert (contrast.WIDTH, contrast.TEMPERATURE, contrast.REGULARISER) == (512, 100, 1)


@pytest.mark.parametrize("name", FOUNDATION)
def test_published_settings_of_foundation_models(name, handed_over):
    size, own = FOUNDATION[name]
    _, *words = handed_over(f"train_{name}.sh", "SEED", "7")
    cfg = resolve(parse_train(words)[0])
    assert (cfg.EXPERIMENT, cfg.TRUNK.NAME, cfg.SEED) == (name, f"dinov2_{size}", 7)
    assert cfg.METHOD == ("srha" if own == "soma_srha" else "baseline")
    tuning, train = own.removesuffix("_srha"), cfg.TRAIN
    heads = {"lora": "plain", "frozen": "linear"}
    chosen = (cfg.TRUNK.TUNING, cfg.DECODER.NAME)
    assert chosen == (tuning, heads.get(tuning, "mask2former"))
    rate = 5e-5 if tuning == "soma" else 1e-4
    assert (train.OPTIMIZER, train.LR_ENCODER, train.LR_DECODER) == ("adamw", rate, 1e-4)
    assert (train.MAX_ITER, train.BATCH_SIZE, train.CLIP_NORM) == (40000, 4, 0)
    assert (train.WEIGHT_DECAY, train.POLY_POWER) == (0.05, 0.9)
    decays = (train.WEIGHT_DECAY_END, train.EMA, train.EMA_START, cfg.VALID.EVERY)
    assert (decays == (1e-5, 0.9998, 12000, 4000)) == (tuning == "soma")
    assert cfg.TRANSFORM.CROP_SIZE == [512, 512] and cfg.VALID.PROTOCOL == "rein"
    edges = cfg.TRANSFORM.SHORT_EDGES
    assert (edges[0], edges[-1], len(edges)) == (256, 1024, 16)
    assert cfg.TRANSFORM.MAX_CLASS_SHARE == 0.75 and cfg.DATASET.SAMPLING == "random"
    tuned = {"rein": ("TOKENS", 100), "soma": ("RANK", 16), "lora": ("RANK", 32)}
    assert not tuned.get(tuning) or cfg.TUNING[tuned[tuning][0]] == tuned[tuning][1]
    if own == "soma_srha":
        assert not cfg.STYLE_ELIMINATION and cfg.SRM.MIN_PLACES == 8 and cfg.ALIGN.RELATIVE
        assert cfg.ALIGN.LOCAL == [0, 0, 0, 0.1] and train.WARMUP == 1000
        _, *words = handed_over(f"train_{name}.sh", METHOD="baseline")
        assert resolve(parse_train(words)[0]).EXPERIMENT == f"{name}_baseline"
    script, *words = handed_over(f"valid_dinov2{size}_gtav.sh", "/some.pth")
    assert words == ["--snapshot", "/some.pth", "--val_dataset", *UNSEEN]


@pytest.mark.parametrize("network", ["r101dlv2", "mitb5"])
def test_another_method_takes_the_place_of_self_training(network, handed_over):
    _, *words = handed_over(f"train_{network}_gtav_didex_hrda.sh", METHOD="srha")
    cfg = resolve(parse_train(words)[0])
    assert cfg.EXPERIMENT == f"{network}_gtav_didex_hrda_srha" and cfg.METHOD == "srha"
    assert (cfg.TRANSFORM.CROP_SIZE, cfg.VALID.PROTOCOL) == ([1024, 1024], "hrda")
    assert cfg.TRANSFORM.SCALE == [1, 1] and cfg.TRANSFORM.JITTER_PROBABILITY == 0
    script, *words = handed_over(f"valid_{network}_gtav_didex.sh", "/some.pth")
    assert words == ["--snapshot", "/some.pth", "--val_dataset", *UNSEEN]


def test_dry_run_of_self_training(miniature, tmp_path):
    words = ["LOG.DIR", tmp_path, "DATASET.CACHE_DIR", tmp_path / "cache"]
    done = run("train_r101dlv2_gtav_didex_mic.sh", miniature, "--trunk", "resnet_mini", *words)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "r101dlv2_gtav_didex_mic"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["METHOD"] == "mic" and settings["DATASET.TARGET"].endswith("PseudoTarget")
    assert list(json.loads((folder / "results.json").read_text())["domains"]) == UNSEEN


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_is_evaluated_as_its_recipe_does(name, handed_over):
    recipe = RECIPES[name]
    script, *words = handed_over(f"valid_{recipe.valid}.sh", "/some.pth")
    assert script == "valid.py" and words[:2] == ["--snapshot", "/some.pth"]
    first = words.index("--val_dataset") + 1
    assert words[first:] == recipe.domains
    if "--trunk" in words:
        assert words[words.index("--trunk") + 1] == recipe.trunk
        assert words[words.index("--dataset") + 1] == recipe.sources[0]


@pytest.mark.parametrize("name", ["r50os16_gtav_isw", "r50os16_gtav_synthia_pinmem"])
def test_dry_run(name, miniature, tmp_path):
    recipe = RECIPES[name]
    small = {"LOG.DIR": tmp_path, "DATASET.CACHE_DIR": tmp_path / "cache"}
    small |= decoder_class(recipe.decoder).small
    words = [word for pair in small.items() for word in pair]
    done = run(f"train_{name}.sh", miniature, "--trunk", "resnet_mini", *words)
    assert done.returncode == 0, done.stderr
    without = "without pictures of the confusion matrices: charts need matplotlib: pip install -r"
    assert done.stderr.count(without) == 1
    folder = tmp_path / name
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["METHOD"] == name.split("_")[-1]
    assert settings["DATASET.SOURCE"] == recipe.sources
    trained = json.loads((folder / "results.json").read_text())
    assert list(trained["domains"]) == recipe.domains
    if name.endswith("isw"):
        return  # evaluated by the same script as others
    script = f"valid_{recipe.valid}.sh"
    done = run(script, miniature, folder / "last.pth", "--out", tmp_path / "evaluated")
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert evaluated["domains"] == trained["domains"]


def test_a_valid_script_without_a_checkpoint_says_what_it_needs(miniature):
    done = run("valid_mobile_gtav.sh", miniature)
    assert done.returncode == 2 and "usage: sh" in done.stderr and "CHECKPOINT" in done.stderr
