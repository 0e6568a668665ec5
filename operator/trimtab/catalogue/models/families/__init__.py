"""The families, one file each, data only: the shapes that the config.json files of well-known models describe."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.families.deepseek import DEEPSEEK
from trimtab.catalogue.models.families.gemma import GEMMA
from trimtab.catalogue.models.families.glm import GLM
from trimtab.catalogue.models.families.gpt_oss import GPT_OSS
from trimtab.catalogue.models.families.llama import LLAMA
from trimtab.catalogue.models.families.minimax import MINIMAX
from trimtab.catalogue.models.families.mistral import MISTRAL
from trimtab.catalogue.models.families.others import OTHERS
from trimtab.catalogue.models.families.phi import PHI
from trimtab.catalogue.models.families.qwen import QWEN

MODELS: Final = (*DEEPSEEK, *GEMMA, *GLM, *GPT_OSS, *LLAMA, *MINIMAX, *MISTRAL, *OTHERS, *PHI, *QWEN)
