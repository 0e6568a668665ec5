import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.builders import llmdeployment
from trimtab.api.convert import config_of
from trimtab.model.config import EngineConfig
from trimtab.render import RenderError, deployment, pod_template, programs, service, template_hash
from trimtab.render.programs.__main__ import stripped
from trimtab.render.workloads import catalogue_of

REPOSITORY = Path(__file__).resolve().parents[3]


def pod(**spec: Any) -> dict[str, Any]:
    resource = llmdeployment(**spec)
    return pod_template(resource, "1a2b3c4d", config_of(resource.spec), catalogue_of(resource.spec))


def engine(**spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = pod(**spec)["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("name", ["probe", "drain"])
def test_the_programs_in_the_pods_are_those_of_the_engine_image(name: str) -> None:
    source = (REPOSITORY / "engine_image" / "trimtab_engine" / f"{name}.py").read_text()
    assert programs.text(name) == stripped(source), "run `python -m trimtab.render.programs engine_image/...`"


@pytest.mark.parametrize(("name", "code"), [("probe", 1), ("drain", 0)])
def test_the_programs_run_from_their_text_alone_where_nothing_is_installed(name: str, code: int) -> None:
    container = engine(rollout={"drainSeconds": 1})
    hooks = {"probe": container["startupProbe"], "drain": container["lifecycle"]["preStop"]}
    python, *words = hooks[name]["exec"]["command"]
    assert python == "python3"
    words[words.index("--port") + 1] = "9"  # nothing listens there
    words = [word for word in words if word not in ("--log", "/proc/1/fd/1")]
    done = subprocess.run([sys.executable, "-I", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


def test_the_programs_import_the_standard_library_only() -> None:
    for text in (programs.PROBE, programs.DRAIN):
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names)


def test_a_pod_is_ready_after_a_completion_and_ends_after_its_requests() -> None:
    container = engine(rollout={"drainSeconds": 40, "readyDeadlineSeconds": 100})
    assert programs.PROBE in container["startupProbe"]["exec"]["command"]
    drain = container["lifecycle"]["preStop"]["exec"]["command"]
    assert programs.DRAIN in drain
    assert drain[drain.index("--deadline") + 1] == "40"
    assert pod(rollout={"drainSeconds": 40})["spec"]["terminationGracePeriodSeconds"] > 40
    # The kubelet does not end a start-up before the rollout has decided on it.
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * 100


def test_a_pod_meets_the_restricted_standard_and_holds_no_credentials() -> None:
    spec = pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = spec["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    mounts = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == {"/tmp", "/dev/shm"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)


def test_a_volume_of_the_user_takes_the_place_of_ours() -> None:
    user = {
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/"}],
    }
    spec = pod(pod=user)["spec"]
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == ["/tmp/", "/dev/shm"]
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch", "trimtab-shm"]


def test_variables_of_the_user_win_over_ours() -> None:
    variables = {item["name"]: item for item in engine(engine={"env": [{"name": "HOME", "value": "/data"}]})["env"]}
    assert variables["HOME"]["value"] == "/data"
    assert variables["VLLM_NO_USAGE_STATS"]["value"] == "1"


def test_accelerators_and_resources_reach_the_container() -> None:
    container = engine(
        accelerator={"count": 2, "type": "H100"}, resources={"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}}
    )
    assert container["resources"] == {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi", "nvidia.com/gpu": "2"}}
    assert "resources" not in engine()


def test_prometheus_is_told_where_the_metrics_are() -> None:
    annotations = pod(engine={"port": 9000})["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9000",
        "prometheus.io/path": "/metrics",
    }


def test_labels_of_the_user_cannot_take_a_pod_away_from_its_revision() -> None:
    labels = pod(pod={"labels": {"team": "chat", "trimtab.dev/revision": "other"}})["metadata"]["labels"]
    assert labels["team"] == "chat"
    assert labels["trimtab.dev/revision"] == "1a2b3c4d"


def test_the_template_hash_changes_with_everything_but_the_configuration() -> None:
    base = template_hash(llmdeployment())
    same = [
        llmdeployment(engine={"config": {"maxNumSeqs": 3}}),
        llmdeployment(replicas=5),
        llmdeployment(tuning={"mode": "Apply"}),
        llmdeployment(slo={"errorRatePermille": 1}),
        llmdeployment(rollout={"watchSeconds": 900}),
    ]
    other = [
        llmdeployment(engine={"image": "registry.example/vllm:other"}),
        llmdeployment(engine={"args": ["--seed", "1"]}),
        llmdeployment(engine={"env": [{"name": "A", "value": "1"}]}),
        llmdeployment(model={"name": "m75", "source": "/models/other"}),
        llmdeployment(resources={"limits": {"memory": "1Gi"}}),
        llmdeployment(accelerator={"count": 1}),
        llmdeployment(pod={"nodeSelector": {"a": "b"}}),
        llmdeployment(rollout={"drainSeconds": 5}),
    ]
    assert {template_hash(item) for item in same} == {base}
    assert len({template_hash(item) for item in other} | {base}) == len(other) + 1


def test_replicas_that_somebody_else_owns_are_not_written() -> None:
    assert "replicas" not in deployment(llmdeployment(), "1a2b3c4d", EngineConfig(), None)["spec"]


def test_the_service_selects_the_pods_of_every_revision() -> None:
    selector = service(llmdeployment())["spec"]["selector"]
    for revision in ("1a2b3c4d", "99999999"):
        made = deployment(llmdeployment(), revision, EngineConfig(), 1)["spec"]
        labels = made["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
        assert made["selector"]["matchLabels"].items() <= labels.items()
        assert made["selector"]["matchLabels"]["trimtab.dev/revision"] == revision


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(RenderError, match="oracle"):
        deployment(llmdeployment(engine={"name": "oracle"}), "1a2b3c4d", EngineConfig(), 1)
