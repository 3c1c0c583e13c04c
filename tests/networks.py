"""Which networks the tests of the contracts build: what the registries hold, as it declares itself.

A method, a decoder or a trunk is tested everywhere by its line in a registry.
"""

from network.build import TRUNK, resolve
from network.decoders import DECODERS, decoder_class
from network.methods import METHODS, method_class
from network.trunks import TRUNKS


def fits(method: str, decoder: str) -> bool:
    """Whether a method finds in a decoder what it needs."""
    return hasattr(decoder_class(decoder), "embed") or not method_class(method).needs_embedding


def output_stride(trunk: str) -> int:
    """The output stride that a trunk has where none is given."""
    return resolve({TRUNK.key: trunk}).TRUNK.OUTPUT_STRIDE


def takes(method: str, trunk: str) -> bool:
    """Whether a method works with a trunk."""
    return trunk in (method_class(method).trunks or (trunk,))


PAIRS = [(m, d) for m in METHODS for d in DECODERS if fits(m, d)]
REFUSED = [(m, d) for m in METHODS for d in DECODERS if not fits(m, d)]


def _covering() -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    for method, decoder in PAIRS:
        first.setdefault(method, decoder)
    pairs = list(first.items())
    for i, decoder in enumerate(DECODERS):
        own = [pair for pair in PAIRS if pair[1] == decoder]
        if own and decoder not in first.values():
            pairs.append(own[i % len(own)])
    return pairs


# For what takes seconds: each method with the first decoder that fits, each decoder with a method.
COVERING = _covering()
# One trunk of each builder: its others differ in size.
FAMILIES = list({builder: name for name, builder in reversed(TRUNKS.items())}.values())
