"""Prompts of a pseudo-target: the rules of DIDEX by hand, blocks and prompts of a user's own."""

import json

import numpy as np
import pytest

from datasets.label_spaces import CITYSCAPES19
from datasets.pseudo_target import prompts as prompting
from datasets.pseudo_target.prompts import Variant, draw_prompts, own_prompts, read_blocks
from utils.errors import UserError

CLASSES = CITYSCAPES19.classes
# road; road, building; road, car, train.
LABELS = np.zeros((3, 19), dtype=bool)
LABELS[0, [0]] = LABELS[1, [0, 2]] = LABELS[2, [0, 13, 16]] = True
ALL = np.ones(19, dtype=bool)


def first_blocks(**changes):
    """The published blocks with one choice each, so that nothing is left to chance."""
    blocks = read_blocks(prompting.PUBLISHED)
    one = {name: v._replace(locations=v.locations[:1]) for name, v in blocks.variants.items()}
    return blocks._replace(traffic=[""], conditions=["rain"], variants=one)._replace(**changes)


def texts(name, **changes):
    files = ["a.png", "b.png", "c.png"]
    drawn = draw_prompts(first_blocks(**changes), name, files, LABELS, ALL, CLASSES, 0)
    return [prompt.prompt for prompt in drawn]


@pytest.mark.parametrize(("name", "still", "driving"), [
    ("rand_cond", "europe, rain, road, car, train", "europe;City, rain, road, car, train"),
    ("rand_location", "europe;, road, car, train", "europe;City, road, car, train"),
    ("uni_cls", "europe, fence, road, car, tram/ train/ trolley",
     "europe;City, fence, road, car, tram/ train/ trolley"),
    ("uni_cls_rand_location", "europe;, fence, road, car, train",
     "europe;City, fence, road, car, train"),
    ("uni_cls_rand_cond", "europe;, fence, road, car, train, rain",
     "europe;City, fence, road, car, train, rain"),
    ("rand_location_uni_cls_rand_cond", "europe;, fence, road, car, train, rain",
     "europe;City, fence, road, car, train, rain"),
])  # fmt: skip
def test_published_variants(name, still, driving):
    """The third image's: sidewalk and wall were named rarely before, and fence is next."""
    assert texts(name)[2] == f"A high quality photo; {still}"
    assert texts(name, traffic=["City"])[2] == f"A high quality photo; {driving}"


def test_what_is_published():
    blocks = read_blocks(prompting.PUBLISHED)
    assert len(blocks.conditions) == 21 and blocks.traffic == ["", "Highway", "City"]
    five = ["europe", "germany", "China", "USA", "India"]
    places = {name: own.locations for name, own in blocks.variants.items()}
    assert places == {name: five if "rand_location" in name else five[:2] for name in places}


def test_rare_classes_of_sixty_labels():
    """By hand: 0 is in every label, 1 in every second, 2 in every third, 3 in none, 4 nowhere.

    After the first six, 1, 2 and 3 have been named 4, 4 and 3 times. Eighteen labels further on it
    is 15, 15 and 14 times, so that the choices repeat.
    """
    present = np.zeros((60, 5), dtype=bool)
    present[:, 0] = True
    present[::2, 1] = True
    present[::3, 2] = True
    found = prompting.rare_classes(present, np.array([True, True, True, True, False]))
    eighteen = [3, 3, 2, 3, 3, 1, 3, 2, 3, 3, 2, 3, 3, 1, 2, 3, 3, 2]
    assert found == [3, 1, 2, 3, 3, 2] + 3 * eighteen


def test_draws_depend_on_file_and_seed_alone():
    blocks = read_blocks(prompting.PUBLISHED)
    files = [f"{i}.png" for i in range(400)]
    labels = np.tile(LABELS[:1], (400, 1))

    def draw(files, seed):
        return draw_prompts(blocks, "rand_cond", files, labels[: len(files)], ALL, CLASSES, seed)

    drawn = draw(files, 0)
    assert draw(files[7:8], 0) == drawn[7:8]
    assert draw(files, 0) == drawn != draw(files, 1)
    assert len({prompt.seed for prompt in drawn}) == 400
    for kind, number in (("location", 2), ("traffic", 3), ("condition", 21)):
        counts = np.unique([prompt.blocks[kind] for prompt in drawn], return_counts=True)[1]
        # Six deviations of a binomial: uniform, and nothing is left out.
        assert len(counts) == number
        assert abs(counts - 400 / number).max() < 6 * np.sqrt(400 / number)


def written(tmp_path, **changes):
    content = json.loads(prompting.PUBLISHED.read_text())
    path = tmp_path / "blocks.json"
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))
    return path


def test_own_blocks(tmp_path):
    own = {"locations": ["Nairobi"], "parts": ["present"], "classes": {"road": "red earth"}}
    blocks = read_blocks(written(tmp_path, base="", traffic=["dirt"], variants={"mine": own}))
    (prompt,) = draw_prompts(blocks, "mine", ["a.png"], LABELS[1:2], ALL, CLASSES, 0)
    assert prompt.prompt == "Nairobi;dirt, red earth, building"


@pytest.mark.parametrize(("changes", "message"), [
    ({"base": None}, "has no base"), ({"base": 3}, "base is not a text"),
    ({"weather": []}, "unknown key .* 'weather'"), ({"conditions": []}, "conditions is empty"),
    ({"traffic": [1]}, "traffic is not a list of texts"),
    ({"variants": {"a": {"locations": ["x"], "parts": ["pressent"]}}}, "did you mean present"),
    ({"variants": {"a": {"locations": [], "parts": []}}}, "variant a has no location"),
    ({"variants": {"a": {"locations": ["x"]}}}, "variant a has no parts"),
    ({"variants": {"a": {"locations": ["x"], "parts": [], "classes": {"rode": "x"}}}},
     "unknown class in .* 'rode'; did you mean"),
    ({"variants": {"a": 5}}, "variant a is no object"),
])  # fmt: skip
def test_faults_of_blocks_are_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_blocks(written(tmp_path, **changes))


def test_files_of_blocks_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.json: no such file"):
        read_blocks(tmp_path / "none.json")
    for content, message in ((b"{", "is no JSON"), (b"\xff\xfe", "is no text in UTF-8")):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_blocks(tmp_path / "bad.json")


def test_the_variant_that_is_chosen():
    blocks, one = first_blocks(), Variant(["x"], [])
    assert blocks.choose(None) == prompting.DEFAULT and blocks.choose("uni_cls") == "uni_cls"
    with pytest.raises(UserError, match="unknown variant of prompts 'uni'; did you mean uni_cls"):
        blocks.choose("uni")
    assert blocks._replace(variants={"mine": one}).choose(None) == "mine"
    with pytest.raises(UserError, match="choose one of several variants: --variant a, b"):
        blocks._replace(variants={"a": one, "b": one}).choose(None)


def test_own_prompts(tmp_path):
    path, files = tmp_path / "mine.jsonl", ["a.png", "b.png", "c.png"]
    lines = [{"file": "c.png", "prompt": "snow", "seed": 5}, {"file": "a.png", "prompt": "sun"}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    first, second = own_prompts(path, files, seed=0)
    assert (first.file, first.prompt, first.seed) == ("a.png", "sun", first.seed)
    assert (second.file, second.prompt, second.seed) == ("c.png", "snow", 5)
    # What was written is read as it was, whatever letters there are.
    second = second._replace(prompt="雪\u2028\x85\ud800")
    path.write_bytes(prompting.lines_of([first, second]))
    assert own_prompts(path, files, seed=9) == own_prompts(path, None, 9) == [first, second]


@pytest.mark.parametrize(("line", "message"), [
    ("rain", "line 1: expected"), ('{"file": "a.png"}', "line 1: expected"), ("3", "line 1: exp"),
    ('{"file": "a.png", "prompt": 3}', "are texts"), ("", "line 1: expected"),
    ('{"file": "a.png", "prompt": "", "blocks": null}', "blocks is no object"),
    ('{"file": "a.png", "prompt": "", "seed": -1}', "seed is -1"),
    ('{"file": "z.png", "prompt": ""}', "names z.png, which is no image of the source"),
    ('{"file": "a.png", "prompt": ""}\n{"file": "a.png", "prompt": ""}', "line 2: a.png has a"),
])  # fmt: skip
def test_faults_of_own_prompts_are_named(tmp_path, line, message):
    (tmp_path / "mine.jsonl").write_text(line)
    with pytest.raises(UserError, match=message):
        own_prompts(tmp_path / "mine.jsonl", ["a.png"], seed=0)
