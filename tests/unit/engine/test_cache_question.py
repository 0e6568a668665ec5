"""Which requests may be answered from the cache, and which part of them must be the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trimtab_engine.semantic_cache.question import CHAT, COMPLETIONS, Asker, Question, Rules, Why, question

RULES = Rules(scope="m", largest_temperature=0.2, longest_text_characters=200, require_tenant=False)
ANYBODY = Asker(tenant=[None])


def chat(
    text: str = "Where is Rome?", *, asker: Asker = ANYBODY, rules: Rules = RULES, **fields: Any
) -> Question | Why:
    messages = fields.pop("messages", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}])
    body = {"model": "m", "messages": messages, "temperature": 0, **fields}
    return question(CHAT, json.dumps(body).encode(), asker, rules)


def part(found: Question | Why) -> str:
    assert isinstance(found, Question)
    return found.partition


def test_the_last_words_are_compared_and_all_else_must_be_the_same() -> None:
    first, other = chat("Where is Rome?"), chat("Where  is\nRome")
    assert isinstance(first, Question) and isinstance(other, Question)
    assert (first.text, other.text) == ("Where is Rome?", "Where is Rome")
    assert first.partition == other.partition
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    others = [
        chat(max_tokens=5),
        chat(model="other"),
        chat(stream=True),
        chat(seed=1),
        chat(asker=Asker(tenant=["Bearer a"])),
        chat(asker=Asker(tenant=["Bearer b"])),
        chat(messages=[*turns, {"role": "user", "content": "Where is Rome?"}]),
        chat("Where are 2 Romes?"),
        chat("Where are 3 Romes?"),
        chat(rules=Rules(scope="n", largest_temperature=0.2, longest_text_characters=200, require_tenant=False)),
    ]
    assert len({part(found) for found in [first, *others]}) == 11


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"temperature": 0.3}, Why.TEMPERATURE),
        ({"temperature": None}, Why.TEMPERATURE),
        ({"temperature": "0"}, Why.TEMPERATURE),
        ({"temperature": True}, Why.TEMPERATURE),
        ({"temperature": -1}, Why.TEMPERATURE),
        ({"tools": [{"type": "function"}]}, Why.TOOLS),
        ({"tool_choice": "auto"}, Why.TOOLS),
        ({"messages": [{"role": "tool", "content": "4"}]}, Why.TOOLS),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, Why.TOOLS),
        ({"messages": [{"role": "assistant", "content": "It is"}]}, Why.SHAPE),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, Why.SHAPE),
        ({"messages": []}, Why.SHAPE),
        ({"messages": "x"}, Why.SHAPE),
        ({"messages": [{"role": "user", "content": "  "}]}, Why.SHAPE),
        ({"n": 2}, Why.SHAPE),
        ({"text": "x " * 200}, Why.LENGTH),
    ],
)
def test_what_is_no_question_for_the_cache_goes_past_it(fields: dict[str, Any], why: Why) -> None:
    assert chat(**fields) is why


def test_users_can_opt_out_and_tenants_can_be_required() -> None:
    for said in ("no-store", "max-age=0, no-cache", "NO-STORE"):
        assert chat(asker=Asker(tenant=["k"], cache_control=said)) is Why.OPTED_OUT
    assert isinstance(chat(asker=Asker(tenant=["k"], cache_control="max-age=5")), Question)
    strict = Rules(scope="m", largest_temperature=0, longest_text_characters=200, require_tenant=True)
    assert chat(rules=strict) is Why.TENANT
    assert isinstance(chat(rules=strict, asker=Asker(tenant=[None, "t"])), Question)


def test_a_prompt_is_a_question_and_a_list_of_prompts_is_none() -> None:
    def asked(prompt: object) -> Question | Why:
        return question(COMPLETIONS, json.dumps({"prompt": prompt, "temperature": 0}).encode(), ANYBODY, RULES)

    assert isinstance(asked("Once"), Question)
    assert asked(["Once", "Twice"]) is asked(None) is asked([1, 2]) is Why.SHAPE
    assert question(COMPLETIONS, b"{", ANYBODY, RULES) is Why.SHAPE
    assert question(COMPLETIONS, b"[]", ANYBODY, RULES) is Why.SHAPE
    assert question("/v1/embeddings", b'{"prompt": "x", "temperature": 0}', ANYBODY, RULES) is Why.SHAPE
