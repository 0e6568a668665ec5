"""Over how many GPUs a model is spread, and how they are watched."""

from __future__ import annotations

from pydantic import Field

from trimtab_engine.config.part import Part

# A size of a layout, by the field that sets it.
FIELDS = {"tensor": "tensor_parallel", "pipeline": "pipeline_parallel", "data": "data_parallel"}


class GpusConfig(Part):
    """GPUs. On a machine without them there is nothing to watch, and the sizes count processes."""

    tensor_parallel: int | None = Field(
        default=None, ge=1, le=64, description="GPUs that share each layer (vLLM, DeepSpeed); null: the engine's own, 1"
    )
    pipeline_parallel: int | None = Field(
        default=None, ge=1, le=64, description="groups of GPUs that share the layers (vLLM); null: the engine's own, 1"
    )
    data_parallel: int | None = Field(
        default=None, ge=1, le=64, description="copies of the model in this pod (vLLM); null: the engine's own, 1"
    )
    watch: bool = Field(default=True, description="read the GPUs by NVML, where it is there")
    interval_seconds: float = Field(default=2, ge=0.1, le=300, description="time between two looks at the GPUs")
    timeout_seconds: float = Field(
        default=10, ge=0.1, le=300, description="how long a look may take; NVML is asked anew after that"
    )
    recover: bool = Field(
        default=True, description="start the engine again on the GPUs that are left when one of them fails"
    )
    most_restarts: int = Field(
        default=3, ge=0, le=100, description="such starts, at most; the next engine follows, or the end"
    )

    @property
    def sizes(self) -> dict[str, int | None]:
        """The sizes of the layout by their names; None where they are not given."""
        return {"tensor": self.tensor_parallel, "pipeline": self.pipeline_parallel, "data": self.data_parallel}
