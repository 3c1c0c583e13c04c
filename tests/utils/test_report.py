"""The report: one file that holds all it shows, and what is in it."""

import base64
import io
import json
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from tests.utils.results_of_runs import domain_result, run_result, write_results
from utils.draw.confusion import confusion_picture
from utils.draw.plotting import row_style
from utils.errors import UserError
from utils.report import __main__ as report
from utils.report.gallery import BOTH_WRONG, difference, fitted


class Page(HTMLParser):
    """Tags that are not closed, ids, pictures, what is linked, and text by tag."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.sources, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.ids += [own["id"]] if "id" in own else []
        self.sources += [own[key] for key in ("src", "href", "xlink:href") if own.get(key)]
        if tag not in ("meta", "link", "img", "i", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("i",):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def runs(tmp_path):
    """Results of two methods with two seeds each, with logs."""
    confusion = [[6, 2], [1, 3]]
    for method, base in (("baseline", 0.3), ("srha", 0.4)):
        for seed in (1, 2):
            domains = {
                name: domain_result(title, {"road": base, "a <b> & c": 0.1 * seed},
                                    confusion=confusion)
                for name, title in (("gtav", "GTAV"), ("idd", "IDD"))
            }  # fmt: skip
            settings = {"RATE": base, "WORKERS": seed}
            folder = write_results(
                tmp_path / f"{method}{seed}", run_result(domains, method, seed, settings=settings)
            )
            with open(folder / "metrics.jsonl", "w") as file:
                for step in (10, 20):
                    entry = {"step": step, "loss/ce": 3 - step / 10, "mIoU/idd": base * step / 20}
                    print(json.dumps(entry), file=file)
    return tmp_path


def folders(root):
    return sorted(p for p in root.iterdir() if (p / "results.json").is_file())


def test_the_page_holds_all_it_shows(runs, write_report):
    text = write_report(*folders(runs), "--no-gallery", "--title", "A & B")
    page = Page(text)
    assert page.open == []
    assert page.ids == ["results", "settings-that-differ", "learning-curves", "classes",
                        "confusion-matrices"]  # fmt: skip
    for source in page.sources:
        assert source.startswith("data:") or source.removeprefix("#") in page.ids, source[:80]
    for address in ("url(", "@import", "fetch(", "XMLHttp"):
        assert address not in text
    assert "A & B" in page.text and "a <b> & c" in page.text
    assert "width=device-width" in text


def test_tables_hold_means_over_seeds_and_settings_that_differ(runs, write_report):
    text = write_report(*folders(runs), "--no-gallery")
    # mIoU of IDD: (0.3 + 0.1) / 2 and (0.3 + 0.2) / 2.
    assert "<td>22.5 ± 3.5</td>" in text and "<td><b>27.5</b> ± 3.5</td>" in text
    assert report.differing_settings(report.group_runs(folders(runs))) == {
        "METHOD": ["baseline", "srha"],
        "RATE": ["0.3", "0.4"],
    }
    assert "<td>a &lt;b&gt; &amp; c</td>" in text


def test_curves_are_means_over_seeds(runs, write_report):
    text = write_report(*folders(runs), "--no-gallery")
    assert "cross entropy of the training batches" in text and "mIoU on IDD" in text
    # It was not logged.
    assert "mIoU on GTAV" not in text
    logs = [[{"step": 1, "a": 1.0}, {"step": 2, "b": 5.0}], [{"step": 1, "a": 3.0}]]
    assert report._curve(logs, "a", 10) == {1: [10, 30]}
    for folder in folders(runs):
        (folder / "metrics.jsonl").unlink()
    assert "have no metrics.jsonl" in write_report(*folders(runs), "--no-gallery")


def test_matrices_are_summed_over_seeds(runs, write_report, monkeypatch):
    seen = []

    def draw(counts, iou, title):
        seen.append((counts.tolist(), iou, title))
        return confusion_picture(counts, iou, title)

    monkeypatch.setattr(report, "confusion_picture", draw)
    write_report(*folders(runs), "--no-gallery")
    iou = {"road": pytest.approx(12 / 18), "a <b> & c": pytest.approx(6 / 12)}
    assert ([[12, 4], [2, 6]], iou, "srha on IDD") in seen and len(seen) == 4


def test_difference_maps_say_who_is_right():
    label = torch.tensor([[0, 0, 0, 255, 1]])
    first = torch.tensor([[0, 1, 1, 0, 1]])
    second = torch.tensor([[1, 0, 2, 1, 1]])
    image = torch.full((3, 1, 5), 100, dtype=torch.uint8)
    colours = [(1, 2, 3), (4, 5, 6)]
    picture = difference(image, label, first, second, colours)
    grey = (177, 177, 177)
    assert [tuple(p) for p in picture[:, 0].T.tolist()] == [
        *colours, BOTH_WRONG, grey, grey,
    ]  # fmt: skip


def test_large_pictures_are_made_small_without_new_colours():
    picture = torch.zeros(3, 40, 1500, dtype=torch.uint8)
    picture[:, :, 700:] = 200
    small = np.array(fitted(picture, photograph=False))
    assert small.shape[1] == 512 and set(np.unique(small)) == {0, 200}


def test_the_gallery_shows_the_images_with_most_disagreement_first(trained, write_report):
    text = write_report(*folders(trained), "--show", 2, "--images", 0)
    page = Page(text)
    assert "where-they-disagree" in page.ids and page.open == []
    shares = [float(line.split("disagree on ")[1].split(" %")[0])
              for line in page.text if "disagree on" in line]  # fmt: skip
    assert len(shares) == 2 and shares == sorted(shares, reverse=True) and shares[1] > 0
    pictures = [s for s in page.sources if s.startswith("data:image") and len(s) > 500]
    # Beside a chart and two matrices, five for each of two images.
    assert len(pictures) == 3 + 10
    with Image.open(io.BytesIO(base64.b64decode(pictures[-1].split(",")[1]))) as last:
        assert last.size == (384, 192)
    assert len(Page(write_report(*folders(trained), "--pair", "srha", "baseline")).sources) > 12


def test_mistakes(trained, write_report):
    with pytest.raises(UserError, match="unknown row 'other'"):
        write_report(*folders(trained), "--pair", "srha", "other")
    with pytest.raises(UserError, match="--pair names srha twice"):
        write_report(*folders(trained), "--pair", "srha", "srha")
    with pytest.raises(UserError, match="--images and --show are numbers"):
        write_report(*folders(trained), "--show", "-1")


def test_without_its_data_the_report_says_what_it_leaves_out(trained, write_report, capsys):
    text = write_report(*folders(trained), "DATASET.ROOT", trained / "moved")
    assert f"no images: Cityscapes val: there is no folder {trained}/moved" in text
    assert "without images of Cityscapes" in capsys.readouterr().err
    # One run a row: nothing is a mean, and nothing deviates.
    assert "over seeds" not in text.lower() and "deviation" not in text
    (trained / "srha" / "last.pth").unlink()
    text = report.disagreements(
        report.group_runs(folders(trained)), ["baseline", "srha"],
        partial(report.scenes, images=1, show=1, places={}),
    )  # fmt: skip
    assert "pictures need the checkpoint of" in text
    with pytest.raises(UserError, match="setting VALID.SCALES has no effect here; UNKNOWN_SET"):
        write_report(*folders(trained), "VALID.SCALES", "0.5")


def test_a_row_has_one_colour(runs, write_report):
    text = write_report(*folders(runs), "--no-gallery", "--names", "METHOD", "SRHA")
    for number, name in enumerate(("METHOD", "SRHA")):
        mark = f"<i class='row' style='background:{row_style(number)[0]}'></i>{name}<"
        # Of results and of settings, and of the classes of two domains.
        assert text.count(mark) == 4
    assert len({row_style(number)[0] for number in range(21)}) == 21
