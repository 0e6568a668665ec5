"""Text Generation Inference: watched and explained, not tuned.

The project has been in maintenance mode since December 2025 and exports neither time to first token nor KV-cache
usage, so an effect could not be judged. Names of its options: `launcher/src/main.rs` of TGI 3.3.
"""

from typing import Final

from trimtab.catalogue.engine import EngineCatalogue

TGI: Final = EngineCatalogue(
    name="tgi",
    title="Text Generation Inference",
    since=(2, 0, 0),
    until=(4, 0, 0),
    note="it is in maintenance mode and exports no time to first token by which a change could be judged.",
)
