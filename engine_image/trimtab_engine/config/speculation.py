"""Tokens that are guessed ahead, and checked by the model several in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from trimtab_engine.config.part import Part


class SpeculationConfig(Part):
    """Who guesses, how far ahead, and from when on guessing does not pay."""

    method: Literal["off", "ngram", "draft"] = Field(
        default="off",
        description="who guesses: nobody, earlier places that read the same (ngram), a smaller model (draft)",
    )
    draft_model: Path | None = Field(
        default=None, description="folder of the smaller model, with the same vocabulary; needed where method is draft"
    )
    tokens: int = Field(default=4, ge=1, le=16, description="tokens guessed at a time, at most")
    longest_match: int = Field(
        default=4, ge=1, le=64, description="for ngram: tokens at the end of the text that are looked for, at most"
    )
    shortest_match: int = Field(default=2, ge=1, le=64, description="for ngram: the same, at least")
    least_acceptance_percent: float = Field(
        default=30,
        ge=0,
        le=100,
        description="guessing rests where fewer of the guesses are right over window_seconds; 0: never",
    )
    window_seconds: float = Field(default=60, ge=1, le=86_400, description="time over which right guesses are counted")
    fewest_tokens: int = Field(
        default=256, ge=1, le=1_000_000, description="guesses in that time below which nothing is concluded"
    )
    retry_seconds: float | None = Field(
        default=900, ge=1, le=31_536_000, description="time until resting guesses are tried again; null: never"
    )

    @field_validator("method", mode="before")
    @classmethod
    def _off_is_a_word(cls, method: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if method is False else method

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method == "draft" and self.draft_model is None:
            raise ValueError("method draft needs draft_model, the folder of a smaller model; ngram needs none")
        if self.method == "ngram" and self.draft_model is not None:
            raise ValueError("draft_model is for method draft; leave it out for ngram")
        if self.shortest_match > self.longest_match:
            raise ValueError("shortest_match must be at most longest_match")
        return self
