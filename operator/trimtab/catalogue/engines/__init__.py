"""The engines, sorted by name. A new engine is one file here and one entry in this list."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trimtab.catalogue.engine import EngineCatalogue
from trimtab.catalogue.engines.sglang import SGLANG
from trimtab.catalogue.engines.tgi import TGI
from trimtab.catalogue.engines.trimtab import TRIMTAB
from trimtab.catalogue.engines.vllm import VLLM

ENGINES: Final[Mapping[str, EngineCatalogue]] = MappingProxyType(
    {engine.name: engine for engine in (SGLANG, TGI, TRIMTAB, VLLM)}
)


def find_engine(name: str) -> EngineCatalogue | None:
    """The catalogue of an engine, or None for an engine that is not known."""
    return ENGINES.get(name)
