#!/usr/bin/env bash
# Makes sure that PostgreSQL's server binaries (initdb, postgres) are here: they are what the demonstration and the
# tests start throwaway servers from. Does nothing where they, or `cockroach` with --or-cockroach, are found.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

readonly PACKAGE=postgresql
readonly CLUSTER_CONFIG=/etc/postgresql-common/createcluster.conf

has_pair() {
  [[ -x "$1/initdb" && -x "$1/postgres" ]] && "$1/initdb" --version >/dev/null 2>&1
}

has_server() {
  local found directory
  if found=$(command -v postgres); then
    has_pair "$(dirname "$(readlink -f "$found")")" && return
  fi
  for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
    /usr/local/opt/postgresql*/bin /usr/local/pgsql/bin; do
    has_pair "$directory" && return
  done
  return 1
}

stop() {
  printf '%s\n' "$@" >&2
  exit 1
}

# Whether apt has lists of packages at all: a fresh container has none.
has_candidate() {
  [[ $(apt-cache policy "$PACKAGE" 2>/dev/null) == *Candidate:\ [0-9]* ]]
}

# The server's package would otherwise create a cluster and run it on port 5432, which nobody asked for. Its
# configuration is put back afterwards.
install_without_cluster() {
  apt_install postgresql-common
  trap '$SUDO mv "$CLUSTER_CONFIG.before" "$CLUSTER_CONFIG"' EXIT
  $SUDO sed -E -i.before 's/^#?(create_main_cluster) *=.*/\1 = false/' "$CLUSTER_CONFIG"
  apt_install "$PACKAGE"
}

install_package() {
  # Packages that the lists still name may be gone from the archive; whether they are, the first one tells.
  if ! has_candidate || ! apt_install postgresql-common; then
    $SUDO apt-get update
  fi
  install_without_cluster
}

if [[ ${1:-} == --or-cockroach ]] && command -v cockroach >/dev/null; then
  exit 0
fi
if has_server; then
  exit 0
fi
need_apt "PostgreSQL's server binaries (initdb, postgres)" "$PACKAGE"
echo "PostgreSQL's server binaries were not found: installing Debian's package '$PACKAGE' by apt-get," \
  "without a server that runs by itself."
install_package
has_server || stop "The package '$PACKAGE' was installed, but initdb and postgres were still not found."
