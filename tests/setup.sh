#!/bin/bash
# Prepares a Debian machine for `make demo` and `make test`: Debian packages that are missing, and .venv in the checkout.
# Running it again takes seconds. What the cluster itself needs (Kubernetes, images) is built by `make cluster-up`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache="${TRIMTAB_CACHE:-$HOME/.cache/trimtab}"
began=$SECONDS
say() { printf '[%4d s] setup: %s\n' "$((SECONDS - began))" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# Program -> the Debian package that has it. `go` only has to be new enough to fetch a newer one (1.19 is).
needed=(
  etcd:etcd-server containerd:containerd runc:runc prometheus:prometheus buildah:buildah mmdebstrap:mmdebstrap
  iptables:iptables ip:iproute2 unshare:util-linux git:git make:make python3:python3
)

missing_packages() {
  local path="$PATH:/usr/local/go/bin:/usr/sbin:/sbin" pair
  for pair in "${needed[@]}"; do
    PATH="$path" command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
  done
  [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || echo containernetworking-plugins
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  PATH="$path" command -v go >/dev/null || echo golang-go
  PATH="$path" command -v uv >/dev/null || [ -x "$cache/uv/bin/uv" ] || python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages | sort -u)
  [ "${#missing[@]}" -gt 0 ] || { say "Debian packages: all there"; return; }
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing, and only root can install them: ${missing[*]}"
  command -v apt-get >/dev/null || fail "this is not Debian; install the programs of these Debian packages: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  # Their services (containerd, Prometheus, etcd) must not start: dpkg asks this program before it starts any.
  local policy=/usr/sbin/policy-rc.d kept="" log
  if [ -e "$policy" ] || [ -L "$policy" ]; then kept="$(mktemp -d)" && mv "$policy" "$kept/"; fi
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 0755 "$policy"
  log="$(mktemp)"
  local result=0
  {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 </dev/null || result=$?
  rm -f "$policy"
  if [ -n "$kept" ]; then mv "$kept/policy-rc.d" "$policy" && rmdir "$kept"; fi
  if [ "$result" != 0 ]; then
    tail -n 25 "$log" >&2
    fail "apt-get could not install them; the whole output is in $log"
  fi
  rm -f "$log"
}

find_uv() {
  if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then command -v uv; return; fi
  if [ ! -x "$cache/uv/bin/uv" ]; then
    rm -rf "$cache/uv" && mkdir -p "$cache"
    python3 -m venv "$cache/uv" >&2
    "$cache/uv/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.5' >&2 || { rm -rf "$cache/uv"; return 1; }
  fi
  echo "$cache/uv/bin/uv"
}

make_environment() {
  local uv lock=requirements-dev.lock stamp=.venv/.trimtab-lock
  local wanted
  wanted="$(sha256sum "$lock" | cut -d' ' -f1)"
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    say "Python environment: up to date"
    return
  fi
  uv="$(find_uv)" || fail "uv could not be installed with pip"
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$uv" venv --quiet --clear --python '>=3.11' .venv || fail "no Python 3.11 or newer could be found or fetched"
  fi
  say "installing the locked Python packages into .venv"
  "$uv" pip sync --quiet --require-hashes --python .venv/bin/python "$lock" || fail "uv pip sync failed"
  echo "$wanted" >"$stamp"
}

install_packages
make_environment
say "done"
