"""Settings: overrides are typed, mistakes are named."""

import ast
import sys
from pathlib import Path

import pytest

import config
import datasets
import predict
from datasets import DATASETS, load_settings
from network.build import resolve, resolve_stored
from network.decoders import DECODERS, decoder_class
from network.methods import METHODS, method_class
from network.methods.baseline import Baseline
from transforms import TrainTransform
from utils.engine.command_line import parse_train, print_settings, read_settings
from utils.engine.experiment import experiment_folder
from utils.errors import UserError
from utils.evaluate.jobs import parse_valid
from utils.seeding import stable_seed
from utils.settings import flatten, walk


def test_overrides_take_the_type_of_the_default():
    cfg = load_settings(
        {
            "TRAIN.MAX_ITER": "7",
            "TRAIN.LR_ENCODER": "1e-3",
            "TRAIN.SYNC_BATCH_NORM": "off",
            "TRANSFORM.CROP_SIZE": "[64, 96]",
            "DATASET.VALIDATION": "gtav,camvid:test",
            "TRUNK.OUTPUT_STRIDE": "8",
        }
    )
    assert cfg.TRAIN.MAX_ITER == 7 and cfg.TRAIN.LR_ENCODER == 1e-3
    assert cfg.TRAIN.SYNC_BATCH_NORM is False
    assert list(cfg.TRANSFORM.CROP_SIZE) == [64, 96]
    assert list(cfg.DATASET.VALIDATION) == ["gtav", "camvid:test"]
    assert cfg.TRUNK.OUTPUT_STRIDE == 8
    assert load_settings({"DATASET.VALIDATION": ""}).DATASET.VALIDATION == []


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("TRAIN.MAX_ITERS", "5", "unknown setting TRAIN.MAX_ITERS; did you mean TRAIN.MAX_ITER?"),
        ("TRAIN.MAX_ITER", "many", "TRAIN.MAX_ITER is 'many'; expected a whole number"),
        ("TRAIN.MAX_ITER", "1.5", "TRAIN.MAX_ITER is '1.5'; expected a whole number"),
        ("TRAIN.LR_ENCODER", "x", "expected a number"),
        ("TRAIN.SYNC_BATCH_NORM", "maybe", "expected true or false"),
        ("TRANSFORM.CROP_SIZE", "64", "expected 2 comma-separated numbers"),
        ("TRANSFORM.CROP_SIZE", "64,a", "expected a whole number"),
        ("PRECISION", "float8", "expected one of float32, bfloat16"),
        ("SRM.CONCENTRATION", "1", "unknown setting SRM.CONCENTRATION"),
    ],
)
def test_mistakes_are_named(key, value, message):
    with pytest.raises(UserError, match=message):
        load_settings({key: value})


def test_methods_and_decoders_bring_their_settings():
    cfg = resolve({"METHOD": "srha", "SRM.CONCENTRATION": "0.5", "ALIGN.LOCAL": "1,0,0,0"})
    assert cfg.SRM.CONCENTRATION == 0.5 and list(cfg.ALIGN.LOCAL) == [1, 0, 0, 0]
    whose = "setting SRM.CONCENTRATION belongs to --method srha; this is .*--method baseline"
    with pytest.raises(UserError, match=whose):
        resolve({"METHOD": "baseline", "SRM.CONCENTRATION": "0.5"})
    with pytest.raises(UserError, match="DECODER.QUERIES belongs to --decoder mask2former"):
        resolve({"DECODER.QUERIES": "5"})


def test_a_method_may_have_defaults_of_its_own_for_others_settings(monkeypatch, capsys):
    monkeypatch.setattr(Baseline, "defaults", {"DECODER.AUX_WEIGHT": 0.0, "DECODER.OF_ANOTHER": 1})
    assert resolve({"METHOD": "baseline"}).DECODER.AUX_WEIGHT == 0
    assert resolve({"METHOD": "srha"}).DECODER.AUX_WEIGHT == 0.4
    assert resolve({"METHOD": "baseline", "DECODER.AUX_WEIGHT": "0.2"}).DECODER.AUX_WEIGHT == 0.2
    monkeypatch.setattr(sys, "argv", ["config.py", "--method", "baseline"])
    print_settings()
    assert "DECODER.AUX_WEIGHT = 0.0\n" in capsys.readouterr().out


def test_stored_settings_that_are_gone(tmp_path):
    """What was switched off is left out; anything else names the file, not the command line."""
    path = tmp_path / "last.pth"
    stored = {"METHOD": "srha", "ALIGN.WARMUP": 0, "SEED": 7}
    assert resolve_stored(stored, {"TRAIN.MAX_ITER": "5"}, path).SEED == 7
    stored |= {"ALIGN.OLD": 100}
    with pytest.raises(UserError, match=r"last.pth holds the setting ALIGN.OLD \(100\), which"):
        resolve_stored(stored, {}, path)
    assert resolve_stored(stored, {"UNKNOWN_SETTINGS": "ignore"}, path).SEED == 7


def test_a_stored_root_that_is_gone_does_not_count(tmp_path, monkeypatch):
    """Data moved: the environment variable that the error recommends goes before it."""
    stored = {"METHOD": "baseline", "DATASET.ROOT": str(tmp_path / "gone")}
    monkeypatch.setenv("GTAV_DIR", str(tmp_path))
    cfg = resolve_stored(stored, {}, tmp_path / "last.pth")
    assert datasets.dataset_class("gtav").find_root(cfg) == tmp_path
    (tmp_path / "gone").mkdir()
    cfg = resolve_stored(stored, {}, tmp_path / "last.pth")
    assert datasets.dataset_class("gtav").find_root(cfg) == tmp_path / "gone" / "GTAV"


def test_flattened_settings_resolve_to_themselves():
    cfg = resolve({"METHOD": "srha", "SEED": "5"})
    assert resolve(flatten(cfg)) == cfg


def test_flags_and_pairs():
    line = "--dataset gtav TRAIN.MAX_ITER 5 --val_dataset bdd100k camvid:test --exp x SEED 3"
    overrides, resume = parse_train(line.split())
    assert not resume
    assert overrides == {
        "DATASET.SOURCE": ["gtav"],
        "DATASET.VALIDATION": ["bdd100k", "camvid:test"],
        "EXPERIMENT": "x",
        "TRAIN.MAX_ITER": "5",
        "SEED": "3",
    }
    options = parse_valid(["--snapshot", "a.pth", "--trunk", "resnet18", "WORKERS", "0"])
    assert options == (["a.pth"], None, {"TRUNK.NAME": "resnet18"}, {"WORKERS": "0"})
    overrides, _ = parse_train(["--exp=x", "TRAIN.MAX_ITER", "5"])
    assert overrides == {"EXPERIMENT": "x", "TRAIN.MAX_ITER": "5"}


@pytest.mark.parametrize(
    "line, message",
    [
        ("TRAIN.MAX_ITER", "'TRAIN.MAX_ITER' has no value"),
        ("--metod srha", "unknown option --metod"),
        ("--method srah", "unknown method 'srah'; did you mean srha"),
        ("TRUNK.NAME resnet51", "unknown trunk 'resnet51'; did you mean resnet50"),
    ],
)
def test_command_line_mistakes(line, message):
    with pytest.raises(UserError, match=message):
        parse_train(line.split())


@pytest.mark.parametrize(
    "line, message",
    [
        ("--method srha METHOD baseline", "--method srha and METHOD baseline disagree"),
        ("--dataset gtav synthia DATASET.SOURCE gtav", "--dataset gtav synthia and DATASET.SOURCE"),
        ("EXPERIMENT a --exp b", "--exp b and EXPERIMENT a disagree; give one of them"),
    ],
)
def test_a_flag_and_a_pair_may_not_disagree(line, message):
    with pytest.raises(UserError, match=message):
        parse_train(line.split())


def test_a_flag_and_a_pair_may_agree():
    overrides, _ = parse_train("--dataset gtav synthia DATASET.SOURCE gtav,synthia".split())
    assert overrides == {"DATASET.SOURCE": "gtav,synthia"}


def test_files_in_capitals_are_no_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTOS").mkdir()
    line = "--snapshot a.pth --input x.png DSC_0002.JPG PHOTOS SEED 3 --out o"
    options, given = read_settings(predict.command_line(), line.split())
    assert options.input == ["x.png", "DSC_0002.JPG", "PHOTOS"] and given == {"SEED": "3"}


def test_the_last_of_a_repeated_setting_counts():
    line = "--exp a --method srha SEED 1 --exp b SEED 2 --method baseline"
    overrides, _ = parse_train(line.split())
    assert overrides == {"SEED": "2", "EXPERIMENT": "b", "METHOD": "baseline"}
    line = "--val_dataset a b SEED 1 --exp RUN LOG.EVERY -1 --val_dataset c --resume SEED 2"
    overrides, resume = parse_train(line.split())
    expected = {"SEED": "2", "LOG.EVERY": "-1", "EXPERIMENT": "RUN", "DATASET.VALIDATION": ["c"]}
    assert overrides == expected and resume


def test_seeds_are_pinned_and_differ():
    assert stable_seed("step", 304, 0, 0) == 4822175667481583831
    assert len({stable_seed("step", 304, s, r) for s in range(100) for r in range(4)}) == 400
    assert all(0 <= stable_seed(s) < 2**63 for s in range(100))


def attributes(path):
    """The pairs (a, b) of all expressions `….a.b` and `a.b` in a file; text does not count."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            yield getattr(owner, "attr", getattr(owner, "id", "")), node.attr
        elif isinstance(node, ast.Constant):
            yield "cfg", node.value  # a setting that is asked for by its key


def test_every_setting_has_a_reader():
    """A setting that no code asks for by name would be an option that does nothing."""
    trees = [config.SETTINGS, datasets.SETTINGS, *(method_class(m).settings for m in METHODS)]
    trees += [decoder_class(d).settings for d in DECODERS]
    root = Path(config.__file__).parent
    files = [root / "train.py", root / "valid.py"]
    for folder in ("network", "utils", "datasets", "transforms"):
        files += (root / folder).rglob("*.py")
    read = {pair for path in files for pair in attributes(path)}
    # By their keys: stored settings are not resolved yet when it is asked what to do with them.
    roots = {dataset.root_setting for dataset in DATASETS.values()} | {"UNKNOWN_SETTINGS"}
    unread = []
    for tree in trees:
        for key, setting in walk(tree):
            assert setting.meaning
            section, _, name = ("cfg." + key).rpartition(".")
            # A section may be bound to a local name first.
            owners = {section.split(".")[-1], "options", "settings"}
            if name not in roots and not any((owner, name) in read for owner in owners):
                unread.append(key)
    assert not unread
    assert sum(1 for tree in trees for _ in walk(tree)) > 60


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("LOG.EVERY", "0", "LOG.EVERY is '0'; expected at least 1"),
        ("WORKERS", "-1", "expected between 0 and 1024"),
        ("TRANSFORM.FLIP", "1.5", "expected between 0 and 1"),
        ("TRANSFORM.CROP_SIZE", "0,64", "expected at least 1"),
        ("SEED", "-1", "expected at least 0"),
        ("SEED", str(2**63), "expected a whole number of 64 bits"),
        ("TRAIN.MOMENTUM", "-1", "expected between 0 and 1"),
        ("TRAIN.MOMENTUM", "inf", "expected a finite number"),
        ("TRAIN.POLY_POWER", "nan", "expected a finite number"),
        ("TRAIN.WEIGHT_DECAY", "-0.1", "expected between 0 and 10"),
        ("TRAIN.MAX_ITER", "9" * 400, "is '9999.* …; expected a whole number of 64 bits"),
        ("VALID.SCALES", "", "expected at least 1 of them"),
        ("INIT_PARTS", "", "expected at least 1 of them"),
        ("TRAIN.POLY_POWER", "1e308", "expected between 0 and 100"),
        ("TRAIN.LR_DECODER", "1e300", "expected between 0 and 1000"),
        ("TRANSFORM.SCALE", "1e9,1e9", "expected between 0.01 and 100"),
        ("DATASET.CLASS_UNIFORM_TILE", "1", "expected at least 8"),
        ("LOG.DIR", "a\0b", "expected text without control characters"),
        ("EXPERIMENT", "a\nb", "expected text without control characters"),
    ],
)
def test_values_out_of_range_are_refused(key, value, message):
    with pytest.raises(UserError, match=message):
        load_settings({key: value})


def test_a_decoder_has_defaults_of_its_own(monkeypatch, capsys):
    """Overrides win over them, the list shows them, and a run's folder names the decoder."""
    cfg = resolve({"DECODER.NAME": "mask2former", "TRAIN.CLIP_NORM": "1"})
    assert (cfg.TRAIN.OPTIMIZER, cfg.TRAIN.LR_ENCODER, cfg.TRAIN.CLIP_NORM) == ("adamw", 1e-5, 1)
    assert experiment_folder(cfg).name == "gtav_resnet50_mask2former_srha"
    assert experiment_folder(resolve({})).name == "gtav_resnet50_srha"
    assert resolve({}).TRAIN.OPTIMIZER == "sgd"
    monkeypatch.setattr(sys, "argv", ["config.py", "--decoder", "mask2former"])
    print_settings()
    listed = capsys.readouterr().out
    assert "TRAIN.OPTIMIZER = adamw" in listed and "TRAIN.NO_DECAY = norms,embeddings" in listed


@pytest.mark.parametrize("name", ["../up", "/elsewhere", ".", ".."])
def test_an_experiment_stays_below_the_log_folder(name):
    with pytest.raises(UserError, match="is no name of a folder below LOG.DIR .logs"):
        experiment_folder(resolve({"EXPERIMENT": name}))


def test_an_experiments_name_fits_a_folder():
    with pytest.raises(UserError, match="name aaaa.* is too long for a folder"):
        experiment_folder(resolve({"EXPERIMENT": "a" * 201}))
    assert experiment_folder(resolve({"EXPERIMENT": "a" * 200})).name == "a" * 200


def test_a_crop_is_larger_than_its_blur_reaches():
    settings = {"TRANSFORM.CROP_SIZE": "5,64", "TRANSFORM.BLUR_SIGMA": "0.1,1.2"}
    with pytest.raises(UserError, match="CROP_SIZE 5,64 is too small for a blur"):
        TrainTransform(load_settings(settings))
    TrainTransform(load_settings(settings | {"TRANSFORM.BLUR_PROBABILITY": 0}))
    TrainTransform(load_settings(settings | {"TRANSFORM.CROP_SIZE": "6,64"}))
