"""Which checkpoint of a run is its best: by mIoU on validation splits, as a rule the sources'."""

from typing import Any

import numpy as np
from easydict import EasyDict

from datasets import is_seen, parse_domain
from utils.errors import UserError


class Best:
    """Keeps the record of the highest mIoU.

    It is taken on the domain VALID.BEST_ON or, without it, as the mean over the sources' validation
    splits that are evaluated. To choose by an unseen domain, or by a test split, is to look at the
    test: such a record is an `oracle`.
    """

    def __init__(self, cfg: EasyDict, record: dict[str, Any] | None = None):
        """`record` is that of a checkpoint; it counts if it is of the same domains."""
        evaluated, sources = cfg.DATASET.VALIDATION, cfg.DATASET.SOURCE
        chosen = cfg.VALID.BEST_ON
        if chosen and chosen not in evaluated:
            raise UserError(
                f"VALID.BEST_ON is {chosen}, which is not among the evaluated domains "
                f"({', '.join(evaluated) or 'none'}); add it to --val_dataset"
            )
        self.domains = [chosen] if chosen else validation_splits(evaluated, sources)
        self.domain = " + ".join(self.domains)
        self.oracle = bool(chosen) and not (
            is_seen(chosen, sources) and parse_domain(chosen)[1] == "val"
        )
        self.record = record if record and record["domain"] == self.domain else None

    def describe(self) -> str:
        """Say what is chosen by, for the log."""
        if not self.domain:
            return (
                "no best.pth: no validation split of the source is evaluated (add it to "
                "--val_dataset, or name a domain with VALID.BEST_ON)"
            )
        mark = ", which is for testing alone: the choice is an oracle" if self.oracle else ""
        mean = "the mean of " if len(self.domains) > 1 else ""
        return f"best.pth is chosen by {mean}mIoU on {self.domain}{mark}"

    def improves(self, results: dict[str, dict[str, Any]], step: int) -> bool:
        """Take the record if `results` of a step (`evaluate`'s by domain) are better.

        Evaluations of another number of images are not compared.
        """
        if not self.domain:
            return False
        scores = [results[domain]["means"]["mIoU"] for domain in self.domains]
        if None in scores:
            return False
        score, images = float(np.mean(scores)), sum(results[d]["images"] for d in self.domains)
        if self.record and (images != self.record["images"] or score <= self.record["mIoU"]):
            return False
        self.record = {
            "domain": self.domain,
            "oracle": self.oracle,
            "step": step,
            "mIoU": score,
            "images": images,
        }
        return True


def validation_splits(evaluated: list[str], sources: list[str]) -> list[str]:
    """Return the evaluated domains that are the split val of a source."""
    names = dict.fromkeys(sources)  # one may come twice
    return [d for name in names for d in evaluated if parse_domain(d) == (name, "val")]
