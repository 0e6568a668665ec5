"""PromQL as text: what goes in cannot change what is asked. That Prometheus agrees is tested against a real one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.observe import queries
from trimtab.observe.engines import ENGINES
from trimtab.observe.engines.spec import parse_version
from trimtab.observe.promql import (
    Matcher,
    Scope,
    duration,
    label_name,
    metric_name,
    one_of,
    quoted,
    re2_escaped,
    tagged,
)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=300)
@given(text=_texts)
def test_a_quoted_text_is_one_string_of_printable_ascii(text: str) -> None:
    string = quoted(text)
    assert re.fullmatch(r'"(?:[ !#-\[\]-~]|\\["\\n]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"', string)


@settings(max_examples=300)
@given(text=_texts)
def test_a_quoted_text_reads_back_as_itself(text: str) -> None:
    # Python reads these escapes as Go does.
    assert eval(quoted(text), {"__builtins__": {}}) == text


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        quoted("\ud800")


@settings(max_examples=200)
@given(text=_texts, other=_texts)
def test_an_escaped_pattern_matches_its_text_alone(text: str, other: str) -> None:
    pattern = re.compile(re2_escaped(text), re.DOTALL)
    assert pattern.fullmatch(text)
    assert (pattern.fullmatch(other) is not None) == (text == other)


@settings(max_examples=200)
@given(
    namespaces=st.lists(_texts, min_size=1, max_size=4),
    pods=st.lists(_texts, min_size=1, max_size=4),
    engine=st.sampled_from(sorted(ENGINES)),
    version=st.sampled_from(["0.32.0", "0.9.1", "nightly"]),
)
def test_every_selector_of_every_query_matches_the_namespace_and_the_pod(
    namespaces: list[str], pods: list[str], engine: str, version: str
) -> None:
    scope = Scope(tuple(namespaces), tuple(pods))
    spec, known = ENGINES[engine], parse_version(version)
    asked = [build(spec, known, scope, 60.0) for build in (queries.freshness, queries.histograms, queries.counters)]
    asked += [queries.gauges(spec, known, scope, 60.0), queries.containers(scope, 60.0), queries.gpu(scope, 60.0)]
    for query in asked:
        outside = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)  # with every string emptied only our own text is left
        selectors = re.findall(r"\{([^}]*)\}", outside)
        assert selectors
        for selector in selectors:
            assert re.match(r'(exported_)?namespace=~?"",(exported_)?pod=~?""', selector)
        assert outside.count("(") == outside.count(")")


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", 'a"', "a\n", "é", "a{"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        metric_name(name)
    with pytest.raises(ValueError, match="name"):
        label_name(name)


def test_a_colon_is_for_metrics_and_not_for_labels() -> None:
    assert metric_name("vllm:x") == "vllm:x"
    with pytest.raises(ValueError, match="label name"):
        label_name("vllm:x")


def test_one_value_is_matched_equal_and_several_by_alternatives() -> None:
    assert str(one_of("pod", ["a.b"])) == 'pod="a.b"'
    assert str(one_of("pod", ["b", "a.b", "b"])) == 'pod=~"a\\\\.b|b"'
    with pytest.raises(ValueError, match="needs a value"):
        one_of("pod", [])


def test_nothing_but_the_four_operators_matches() -> None:
    with pytest.raises(ValueError, match="operator"):
        str(Matcher("a", "==", "b"))


def test_a_tag_cannot_refer_to_other_labels() -> None:
    with pytest.raises(ValueError, match="refer"):
        tagged("up", "reading", "$1")


def test_durations_are_whole_seconds_and_never_nothing() -> None:
    assert [duration(seconds) for seconds in (0.01, 1.4, 59.6, 86400)] == ["1s", "1s", "60s", "86400s"]
