"""The embedding model that is built here from published weights gives the vectors that transformers gives."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from tests.models.make_minilm import cached
from tests.vllm import venv
from trimtab_engine.semantic_cache.embed import OnnxEmbedder

pytestmark = [pytest.mark.vllm, pytest.mark.long]

TEXTS = ["How do I reset my password?", "7/8 or 0.9: which of these is larger?", "Ein Satz auf Deutsch.", "a " * 200]
_BY_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
found = []
with torch.no_grad():
    for text in texts:
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        found.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).tolist())
print(json.dumps(found))
"""


def test_the_vectors_are_those_of_transformers() -> None:
    folder = cached()
    command = [str(venv.python()), "-c", _BY_TRANSFORMERS, str(folder / "source"), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    embedder = OnnxEmbedder(folder)
    for text, expected in zip(TEXTS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        vector = embedder.embed(text)
        assert vector is not None
        np.testing.assert_allclose(vector, expected, atol=1e-5)
