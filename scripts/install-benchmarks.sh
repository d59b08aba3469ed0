#!/usr/bin/env bash
# Makes sure that what the benchmarks need besides PostgreSQL's server is here: valgrind, and with --peers also pgbench and the
# proxies that Reprise is compared with.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

needed=(valgrind:valgrind)
if [[ ${1:-} == --peers ]]; then
  needed+=(pgbench:postgresql-client psql:postgresql-client pgbouncer:pgbouncer haproxy:haproxy)
fi

packages=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
((${#packages[@]})) || exit 0

need_apt "${packages[*]}" "${packages[*]}"
apt_install_or_update "${packages[@]}"
# Debian starts what it installs as a service; the benchmarks start their own.
for service in pgbouncer haproxy; do
  if [[ " ${packages[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
    $SUDO systemctl disable --now "$service" >/dev/null 2>&1 || true
  fi
done
