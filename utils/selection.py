"""Which checkpoint of a run is its best: by mIoU on one domain, as a rule the source's."""

from typing import Any

from easydict import EasyDict

from datasets import parse_domain
from utils.errors import UserError


class Best:
    """Keeps the record of the highest mIoU on one domain.

    The domain is VALID.BEST_ON or, without it, the first validation split of the source that is
    judged. To choose by an unseen domain is to look at the test: such a record is an `oracle`.
    """

    def __init__(self, cfg: EasyDict, record: dict[str, Any] | None = None):
        """`record` is that of a checkpoint; it counts if it is of the same domain."""
        domains, sources = cfg.DATASET.VALIDATION, cfg.DATASET.SOURCE
        own = [d for d in domains if parse_domain(d)[0] in sources and not d.endswith(":train")]
        chosen = cfg.VALID.BEST_ON
        if chosen and chosen not in domains:
            raise UserError(
                f"VALID.BEST_ON is {chosen}, which is not among the judged domains "
                f"({', '.join(domains) or 'none'}); add it to --val_dataset"
            )
        self.domain = chosen or next(iter(own), "")
        self.oracle = bool(self.domain) and parse_domain(self.domain)[0] not in sources
        self.record = record if record and record["domain"] == self.domain else None

    def describe(self) -> str:
        """Say what is chosen by, for the log."""
        if not self.domain:
            return (
                "no best.pth: no validation split of the source is judged (add it to "
                "--val_dataset, or name a domain with VALID.BEST_ON)"
            )
        mark = ", a domain that must stay unseen: the choice is an oracle" if self.oracle else ""
        return f"best.pth is chosen by mIoU on {self.domain}{mark}"

    def improves(self, results: dict[str, dict[str, Any]], step: int) -> bool:
        """Take the record if `results` of a step (`evaluate`'s by domain) are better.

        Judgements of another number of images are not compared.
        """
        if not self.domain:
            return False
        result = results[self.domain]
        score, images = result["means"]["mIoU"], result["images"]
        if score is None:
            return False
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
