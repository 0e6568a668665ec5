import re

from hypothesis import given
from hypothesis import strategies as st

from trimtab.api import names
from trimtab.model.config import EngineConfig

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
subdomains = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?){0,4}", fullmatch=True
)
revisions = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)


@given(subdomains, revisions)
def test_every_name_that_kubernetes_knows_gives_a_dns_label(base: str, revision: str) -> None:
    name = names.workload_name(base, revision)
    assert LABEL.fullmatch(name)
    assert len(name) <= 63
    assert name.endswith(f"-{revision}")


@given(subdomains, subdomains, revisions)
def test_different_workloads_have_different_names_also_when_they_are_cut(one: str, other: str, revision: str) -> None:
    assert (names.workload_name(one, revision) == names.workload_name(other, revision)) == (one == other)


def test_a_name_that_fits_is_left_as_it_is() -> None:
    assert names.workload_name("chat", "1a2b3c4d") == "chat-1a2b3c4d"
    assert names.service_name("a" * 63) == "a" * 63


def test_long_names_that_differ_at_their_end_only_are_told_apart() -> None:
    assert names.fitted("a" * 80 + "1") != names.fitted("a" * 80 + "2")


def test_a_revision_is_named_by_its_configuration_and_its_template() -> None:
    one, two = EngineConfig({"maxNumSeqs": 1}), EngineConfig({"maxNumSeqs": 2})
    assert names.revision_name(one, "t") == names.revision_name(EngineConfig({"maxNumSeqs": 1}), "t")
    assert len({names.revision_name(one, "t"), names.revision_name(two, "t"), names.revision_name(one, "u")}) == 3


def test_a_selector_is_written_in_a_fixed_order() -> None:
    assert names.selector_text({"b": "2", "a": "1"}) == "a=1,b=2"
