#!/usr/bin/env bash
# Makes sure that what the benchmarks need besides PostgreSQL's server is here: valgrind, and with --peers also pgbench and the
# proxies that Reprise is compared with.
set -euo pipefail

needed=(valgrind:valgrind)
if [[ ${1:-} == --peers ]]; then
  needed+=(pgbench:postgresql-client psql:postgresql-client pgbouncer:pgbouncer haproxy:haproxy)
fi

packages=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
((${#packages[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
  echo "These are needed and were not found: ${packages[*]}. Install them with this system's package manager." >&2
  exit 1
fi
SUDO=
[[ $(id -u) -eq 0 ]] || SUDO='sudo -n'
install() {
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${packages[@]}"
}
# The lists of packages may be missing, or older than the archive.
install || { $SUDO apt-get update && install; }
# Debian starts what it installs as a service; the benchmarks start their own.
for service in pgbouncer haproxy; do
  if [[ " ${packages[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
    $SUDO systemctl disable --now "$service" >/dev/null 2>&1 || true
  fi
done
