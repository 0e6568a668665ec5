"""Single models of other publishers. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.stacks import decoder, grouped_query

OTHERS: Final = (
    decoder(
        "BAAI/Aquila-7B",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 32, 128),
        intermediate=11008,
        vocab=100008,
        positions=2048,
    ),
    # One, two or four key heads by layer (67 in sum); engines load it with four in all layers.
    decoder(
        "Deci/DeciLM-7B",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 4, 128),
        intermediate=14336,
        vocab=32000,
        positions=8192,
    ),
    decoder(
        "EleutherAI/gpt-j-6b",
        layers=28,
        hidden=4096,
        attention=grouped_query(16, 16, 256),
        intermediate=16384,
        vocab=50400,
        positions=2048,
        gated=False,
    ),
    decoder(
        "bigscience/bloom-7b1",
        layers=30,
        hidden=4096,
        attention=grouped_query(32, 32, 128, bias=True),
        intermediate=16384,
        vocab=250880,
        positions=2048,
        tied=True,
        gated=False,
    ),
    decoder(
        "facebook/opt-6.7b",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 32, 128, bias=True),
        intermediate=16384,
        vocab=50272,
        positions=2048,
        tied=True,
        gated=False,
        other=2050 * 4096,  # learned positions
    ),
)
