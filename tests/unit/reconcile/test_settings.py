"""The operator's settings from the environment: defaults, and refusals that name the variable."""

from __future__ import annotations

import pytest

from trimtab.config import MODES, SettingsError, from_environment

URL = {"TRIMTAB_PROMETHEUS_URL": "http://prometheus:9090"}


def test_the_address_of_prometheus_is_all_that_must_be_said() -> None:
    settings = from_environment(URL)
    assert settings.prometheus_url == "http://prometheus:9090"
    assert settings.namespaces == ()
    assert settings.lease_name == "trimtab"
    assert settings.lease_namespace == "default"
    assert settings.max_mode == "Apply"
    assert (settings.metrics_port, settings.health_port) == (9090, 8080)
    assert settings.prometheus_timeout == 10.0


def test_everything_can_be_said() -> None:
    settings = from_environment(
        {
            "TRIMTAB_PROMETHEUS_URL": "https://prometheus.monitoring:9090/",
            "TRIMTAB_PROMETHEUS_TIMEOUT_SECONDS": "2.5",
            "TRIMTAB_NAMESPACES": " team-b, team-a ,,",
            "TRIMTAB_LEASE_NAMESPACE": "trimtab-system",
            "TRIMTAB_LEASE_NAME": "second",
            "TRIMTAB_MAX_MODE": "Observe",
            "TRIMTAB_LOG_LEVEL": "debug",
            "TRIMTAB_METRICS_PORT": "19090",
            "TRIMTAB_HEALTH_PORT": "18080",
            "TRIMTAB_LISTEN_HOST": "127.0.0.1",
            "TRIMTAB_WORKERS": "2",
            "TRIMTAB_RESYNC_SECONDS": "60",
            "POD_NAME": "trimtab-0",
            "POD_NAMESPACE": "elsewhere",
        }
    )
    assert settings.prometheus_url == "https://prometheus.monitoring:9090"
    assert settings.prometheus_timeout == 2.5
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.lease_namespace, settings.lease_name) == ("trimtab-system", "second")
    assert (settings.max_mode, settings.log_level, settings.identity) == ("Observe", "DEBUG", "trimtab-0")
    assert (settings.metrics_port, settings.health_port) == (19090, 18080)
    assert (settings.listen_host, settings.workers, settings.resync) == ("127.0.0.1", 2, 60.0)


def test_empty_variables_are_as_good_as_none() -> None:
    """A chart writes a variable for each value, also for those that are empty."""
    names = ("NAMESPACES", "LEASE_NAME", "LEASE_NAMESPACE", "MAX_MODE", "LOG_LEVEL", "METRICS_PORT", "WORKERS")
    assert from_environment({**URL, **{f"TRIMTAB_{name}": "" for name in names}}) == from_environment(URL)


def test_the_lease_lies_in_the_pods_namespace_unless_it_is_said_otherwise() -> None:
    assert from_environment({**URL, "POD_NAMESPACE": "trimtab-system"}).lease_namespace == "trimtab-system"


REFUSED = {
    "no address": ({}, "TRIMTAB_PROMETHEUS_URL"),
    "an address without http": ({"TRIMTAB_PROMETHEUS_URL": "prometheus:9090"}, "TRIMTAB_PROMETHEUS_URL"),
    "a file": ({"TRIMTAB_PROMETHEUS_URL": "file:///etc/passwd"}, "TRIMTAB_PROMETHEUS_URL"),
    "an unknown mode": ({**URL, "TRIMTAB_MAX_MODE": "Everything"}, "TRIMTAB_MAX_MODE"),
    "a time that is no number": ({**URL, "TRIMTAB_PROMETHEUS_TIMEOUT_SECONDS": "soon"}, "_TIMEOUT_SECONDS"),
    "no time at all": ({**URL, "TRIMTAB_PROMETHEUS_TIMEOUT_SECONDS": "0"}, "_TIMEOUT_SECONDS"),
    "a negative number of workers": ({**URL, "TRIMTAB_WORKERS": "-1"}, "TRIMTAB_WORKERS"),
    "less than one worker": ({**URL, "TRIMTAB_WORKERS": "0.5"}, "TRIMTAB_WORKERS"),
    "a port that is none": ({**URL, "TRIMTAB_METRICS_PORT": "70000"}, "TRIMTAB_METRICS_PORT"),
    "a time without end": ({**URL, "TRIMTAB_RESYNC_SECONDS": "inf"}, "TRIMTAB_RESYNC_SECONDS"),
    "a time that is not a number": ({**URL, "TRIMTAB_RESYNC_SECONDS": "nan"}, "TRIMTAB_RESYNC_SECONDS"),
    "a log level that does not exist": ({**URL, "TRIMTAB_LOG_LEVEL": "LOUD"}, "TRIMTAB_LOG_LEVEL"),
}


@pytest.mark.parametrize(("environment", "variable"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_used_is_refused_by_the_name_of_its_variable(environment: dict[str, str], variable: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment(environment)
    assert variable in str(refused.value)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_the_highest(mode: str) -> None:
    assert from_environment({**URL, "TRIMTAB_MAX_MODE": mode}).max_mode == mode
