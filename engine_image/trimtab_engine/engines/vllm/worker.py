"""What a worker of vLLM can be asked: `vllm serve --worker-extension-cls trimtab_engine.engines.vllm.worker.Asked`.

vLLM (0.32) chooses the kernel of attention in its workers, by the device and the model, and adds the methods of this
class to theirs. It needs nothing of vLLM's.
"""

from __future__ import annotations

from typing import Any

QUESTION = "trimtab_attention"


class Asked:
    """Mixed into vLLM's worker."""

    def trimtab_attention(self) -> dict[str, Any]:
        """The device and the kernels of all layers, without repetition."""
        me: Any = self
        layers = me.vllm_config.compilation_config.static_forward_context.values()
        backends = {layer.get_attn_backend().get_name() for layer in layers if hasattr(layer, "get_attn_backend")}
        return {"kernels": sorted(backends), "device": str(me.device.type)}
