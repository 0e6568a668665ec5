"""What all models of the API share: camelCase names, bounded types, rules in CEL."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

GROUP = "trimtab.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# A quantity of Kubernetes that is not negative, as `apimachinery/pkg/api/resource/quantity.go` describes it.
QUANTITY = r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def camel(name: str) -> str:
    """`max_num_seqs` -> `maxNumSeqs`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class ApiModel(BaseModel):
    """Frozen, named in camelCase; the text below a field is its description in the CRD."""

    model_config = ConfigDict(
        alias_generator=camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True, extra="forbid"
    )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest; fields without a value are left out."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class StatusModel(ApiModel):
    """Status is read tolerantly: fields of a newer operator are left aside."""

    model_config = ConfigDict(extra="ignore")


def rules(*checks: tuple[str, str] | tuple[str, str, str]) -> ConfigDict:
    """A model's configuration with CEL rules that the API server checks: (expression, message[, path of the field])."""
    validations = []
    for rule, message, *path in checks:
        validations.append({"rule": rule, "message": message, **({"fieldPath": path[0]} if path else {})})
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": validations})  # type: ignore[dict-item]


def exactly_one(*fields: str) -> tuple[str, str]:
    """The rule that one of `fields` is set, and no other."""
    counted = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    return f"{counted} == 1", f"exactly one of {', '.join(fields[:-1])} and {fields[-1]} must be set"


def list_map(*keys: str) -> dict[str, Any]:
    """Schema of a list whose items are told apart by `keys`, so that server-side apply merges it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Positive = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Large = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
Permille = Annotated[int, Field(strict=True, ge=0, le=1000)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Milliseconds = Annotated[int, Field(strict=True, ge=1, le=86_400_000)]
UserId = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]

Word = Annotated[str, StringConstraints(max_length=63)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
Line = Annotated[str, StringConstraints(max_length=1024)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^/")]
Instant = Annotated[str, StringConstraints(max_length=48), Field(json_schema_extra={"format": "date-time"})]
Number = Annotated[float, Field(allow_inf_nan=False)]
Quantity = Annotated[
    Annotated[int, Field(strict=True, ge=0)] | Annotated[str, StringConstraints(max_length=32, pattern=QUANTITY)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
