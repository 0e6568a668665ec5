#!/bin/bash
# Prepares a Debian machine for `make demo` and `make test`: Debian packages that are missing, and .venv in the checkout.
# With `bench`, only .venv-bench for `make bench-planner`. Running it again takes seconds. What the cluster itself needs (Kubernetes, images) is built by `make cluster-up`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache="${TRIMTAB_CACHE:-$HOME/.cache/trimtab}"
# Where Debian and others put what only administrators run, and Go.
PATH="$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"
policy=/usr/sbin/policy-rc.d
kept_policy=""

say() { printf '[%4d s] setup: %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Program:package. Any Go will do that can download a newer one as a module (Debian 12 has 1.19).
needed=(
  etcd:etcd-server containerd:containerd runc:runc prometheus:prometheus buildah:buildah mmdebstrap:mmdebstrap
  redis-server:redis-server iptables:iptables ip:iproute2 unshare:util-linux go:golang-go python3:python3 gcc:gcc
)

missing_packages() {
  local pair
  for pair in "${needed[@]}"; do
    has "${pair%%:*}" || echo "${pair##*:}"
  done
  [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || echo containernetworking-plugins
  compgen -G '/usr/lib/*/libnuma.so.1' >/dev/null || echo libnuma1 # vLLM is linked against it
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  has uv || [ -x "$cache/uv/bin/uv" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# The packages' services must neither start now (dpkg asks this program) nor at the next boot.
forbid_services() {
  if [ -e "$policy" ] || [ -L "$policy" ]; then
    kept_policy="$policy.kept-by-trimtab"
    mv "$policy" "$kept_policy"
  fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 0755 "$policy"
  trap allow_services EXIT
}

allow_services() {
  trap - EXIT
  rm -f "$policy"
  if [ -n "$kept_policy" ]; then mv "$kept_policy" "$policy"; fi
}

install_packages() {
  local missing log package
  mapfile -t missing < <(missing_packages | sort -u)
  if [ "${#missing[@]}" -eq 0 ]; then
    say "Debian packages: all there"
    return
  fi
  has apt-get || fail "this is not Debian; install what these Debian packages hold: ${missing[*]}"
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing, and only root can install them: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  log="$(mktemp)"
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 25 "$log" >&2
    fail "apt-get could not install them; the whole output is in $log"
  fi
  allow_services
  for package in etcd containerd prometheus redis-server; do
    if [[ " ${missing[*]} " == *" $package"* ]] && has systemctl; then
      systemctl disable "$package" >/dev/null 2>&1 || true # nothing to disable where systemd does not run
    fi
  done
  rm -f "$log"
}

find_uv() {
  if uv --version >/dev/null 2>&1; then
    command -v uv
    return
  fi
  if [ ! -x "$cache/uv/bin/uv" ]; then
    rm -rf "$cache/uv"
    mkdir -p "$cache"
    python3 -m venv "$cache/uv" >&2
    if ! "$cache/uv/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.5' >&2; then
      rm -rf "$cache/uv"
      return 1
    fi
  fi
  echo "$cache/uv/bin/uv"
}

# make_environment LOCK FOLDER: a virtual environment with exactly what the lock file names.
make_environment() {
  local uv wanted lock=$1 venv=$2 stamp=$2/.installed-lock
  wanted="$(sha256sum "$lock" | cut -d' ' -f1)"
  if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    say "Python environment: up to date"
    return
  fi
  uv="$(find_uv)" || fail "pip could not install uv"
  if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$uv" venv --quiet --clear --python '>=3.11' "$venv" || fail "there is no Python 3.11 or newer, and uv could not fetch one"
  fi
  say "installing the locked Python packages into $venv"
  "$uv" pip sync --quiet --require-hashes --python "$venv/bin/python" "$lock" || fail "uv could not install $lock"
  echo "$wanted" >"$stamp"
}

if [ "${1:-}" = bench ]; then # the planner's benchmarks need no more than Python
  make_environment requirements-bench.lock .venv-bench
else
  install_packages
  make_environment requirements-dev.lock .venv
fi
say "done"
