"""tests/setup.sh, on a machine of its own whose apt-get is one of ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.isolation import Machine, isolated

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[2]
POLICY = "/usr/sbin/policy-rc.d"
APT = f"""#!/bin/sh
echo "apt-get $*" >>/tmp/calls
[ "$1" = update ] && exit 0
{POLICY} containerd start
echo "services: $?" >>/tmp/calls
echo "E: Unable to locate package"
exit 100
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    directory = Path("/var/tmp") / f"trimtab-setup-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    with isolated(directory, REPOSITORY) as made:
        made.run("sh", "-c", "mkdir /tmp/stubs && cat >/tmp/stubs/apt-get && chmod 755 /tmp/stubs/apt-get", stdin=APT)
        made.run("sh", "-c", "mkdir -p .venv && sha256sum requirements-dev.lock | cut -d' ' -f1 >.venv/.installed-lock")
        yield made


def setup(machine: Machine) -> tuple[int, str]:
    done = machine.run("sh", "-c", 'PATH="/tmp/stubs:$PATH" exec bash tests/setup.sh', check=False)
    return done.returncode, done.stdout + done.stderr


def test_where_everything_is_there_nothing_is_installed(machine: Machine) -> None:
    code, said = setup(machine)
    assert code == 0, said
    assert "Debian packages: all there" in said
    assert "Python environment: up to date" in said
    assert machine.run("ls", "/tmp/calls", check=False).returncode != 0


@pytest.mark.parametrize("policy", [None, "#!/bin/sh\nexit 0\n"])
def test_only_what_is_missing_is_installed_without_starting_services_and_a_failure_is_shown(
    machine: Machine, policy: str | None
) -> None:
    machine.run("sh", "-c", 'for name in etcd buildah; do rm "$(command -v $name)"; done')
    machine.run("rm", "-f", POLICY)
    if policy is not None:
        machine.run("sh", "-c", f"cat >{POLICY} && chmod 755 {POLICY}", stdin=policy)

    code, said = setup(machine)

    assert code == 1
    assert "installing Debian packages: buildah etcd-server" in said
    assert "E: Unable to locate package" in said
    assert "apt-get could not install them" in said
    calls = machine.run("cat", "/tmp/calls").stdout
    assert "install --yes --no-install-recommends buildah etcd-server" in calls
    assert "services: 101" in calls
    # Whether services may be started afterwards is as it was before.
    left = machine.run("cat", POLICY, check=False)
    assert (left.stdout if left.returncode == 0 else None) == policy
