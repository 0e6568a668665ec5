"""Model families: the shapes of well-known models, and of any other from its config.json.

find_model("nvidia/DeepSeek-R1-NVFP4")        # a ModelShape from the registry, or None
model_parameters(shape).total                 # number of parameters
"""

from trimtab.catalogue.models.config_json import ConfigError, ConfigReading, read_config
from trimtab.catalogue.models.families import MODELS
from trimtab.catalogue.models.parameters import (
    LayerParameters,
    ModelParameters,
    expert_parameters,
    layer_parameters,
    model_parameters,
)
from trimtab.catalogue.models.registry import find_model
from trimtab.catalogue.models.shape import (
    Block,
    Dense,
    Experts,
    GroupedQuery,
    Latent,
    Linear,
    ModelShape,
)

__all__ = [
    "MODELS",
    "Block",
    "ConfigError",
    "ConfigReading",
    "Dense",
    "Experts",
    "GroupedQuery",
    "LayerParameters",
    "Latent",
    "Linear",
    "ModelParameters",
    "ModelShape",
    "expert_parameters",
    "find_model",
    "layer_parameters",
    "model_parameters",
    "read_config",
]
