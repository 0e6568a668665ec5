"""The knob catalogue: neutral knob -> engine flag, by engine and version range, and what changing it costs.

One file per engine in `engines/`, data only. A new knob is one entry there; a new engine is one file and one line in
`engines/__init__.py`. Versions outside the range that an engine's file covers get no flag at all: a plan never emits
a flag that the engine lacks.

    engine = find_engine("vllm")
    engine.flags("0.32.0", EngineConfig({"maxNumSeqs": 32}))   # ("--max-num-seqs", "32")
    engine.problems("0.32.0", config)                          # sentences; problem.certain: refused on every machine
    engine.defaults("0.32.0", "cpu")                           # what holds for knobs that are not set
"""

from trimtab.catalogue.checkpoints import quantization_named_in
from trimtab.catalogue.engine import EngineCatalogue, Problem
from trimtab.catalogue.engines import ENGINES, find_engine
from trimtab.catalogue.gpus import GPUS, Device, Gpu, Processor, find_device, find_gpu
from trimtab.catalogue.knob import (
    Applies,
    CatalogueError,
    InvalidValue,
    Knob,
    KnobType,
    Risk,
    UnknownKnob,
    parse_version,
)

__all__ = [
    "ENGINES",
    "GPUS",
    "Applies",
    "CatalogueError",
    "Device",
    "EngineCatalogue",
    "Gpu",
    "InvalidValue",
    "Knob",
    "KnobType",
    "Problem",
    "Processor",
    "Risk",
    "UnknownKnob",
    "find_device",
    "find_engine",
    "find_gpu",
    "parse_version",
    "quantization_named_in",
]
