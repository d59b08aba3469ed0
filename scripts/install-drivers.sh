#!/usr/bin/env bash
# Installs the drivers that `make drivers` runs and builds their programs, into a folder of the build directory. What is
# there already is left alone. Nothing is skipped: what cannot be installed ends the script with an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SOURCES=tests/drivers
readonly INSTALLED=${CARGO_TARGET_DIR:-target}/drivers
readonly PGJDBC=/usr/share/java/postgresql.jar
readonly GO_LIBRARIES=/usr/share/gocode

# Each of Debian's packages, and what tells that it is there.
declare -rA PACKAGES=(
  [postgresql-client]="psql --version && pgbench --version"
  [python3-venv]="python3 -c 'import ensurepip'"
  [nodejs]="command -v node"
  [npm]="command -v npm"
  [default-jdk-headless]="command -v javac"
  [libpostgresql-jdbc-java]="test -e $PGJDBC"
  [golang-go]="command -v go"
  [golang-github-jackc-pgx-v4-dev]="test -d $GO_LIBRARIES/src/github.com/jackc/pgx/v4"
  [golang-github-lib-pq-dev]="test -d $GO_LIBRARIES/src/github.com/lib/pq"
)

stop() {
  printf '%s\n' "$@" >&2
  exit 1
}

missing() {
  local package
  for package in "${!PACKAGES[@]}"; do
    eval "${PACKAGES[$package]}" >/dev/null 2>&1 || echo "$package"
  done
}

install_packages() {
  local packages
  mapfile -t packages < <(missing)
  ((${#packages[@]})) || return 0
  echo "Installing for the drivers, by apt-get: ${packages[*]}"
  local sudo=
  [[ $(id -u) -eq 0 ]] || sudo='sudo -n'
  # Packages that the lists still name may be gone from the archive.
  $sudo apt-get update --quiet=2
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${packages[@]}" \
    >"$INSTALLED/apt.log" 2>&1 || stop "$(tail -n 20 "$INSTALLED/apt.log")" "The drivers need these packages: ${packages[*]}"
  mapfile -t packages < <(missing)
  ((${#packages[@]} == 0)) || stop "Installed, and still not found: ${packages[*]}"
}

# Whether a step was last done with the same files as now; they are remembered by remember().
is_done() {
  sha256sum --check --status "$INSTALLED/$1.sums" 2>/dev/null
}

remember() {
  sha256sum "${@:2}" >"$INSTALLED/$1.sums"
}

install_python() {
  local lock=$SOURCES/python/requirements.txt
  is_done python && return
  python3 -m venv --clear "$INSTALLED/venv"
  "$INSTALLED/venv/bin/pip" install --quiet --only-binary=:all: --requirement "$lock"
  remember python "$lock"
}

install_node() {
  local locks=("$SOURCES/node/package.json" "$SOURCES/node/package-lock.json")
  is_done node && return
  mkdir -p "$INSTALLED/node"
  cp "${locks[@]}" "$INSTALLED/node"
  (cd "$INSTALLED/node" && npm ci --no-audit --no-fund --loglevel=error)
  remember node "${locks[@]}"
}

build_java() {
  local sources=("$SOURCES"/java/*.java)
  is_done java && return
  javac -Xlint:all -Werror -d "$INSTALLED/java" -cp "$PGJDBC" "${sources[@]}"
  remember java "${sources[@]}" "$PGJDBC"
}

# The version of the library that a program is built with: Debian's packages are the only ones that know it.
go_version() {
  dpkg-query --show --showformat='${Version}' "$1" | sed 's/-[^-]*$//'
}

build_go() {
  local sources=("$SOURCES"/go/src/*/*.go)
  is_done go && return
  local program package
  while read -r program package; do
    GO111MODULE=off GOPATH="$PWD/$SOURCES/go:$GO_LIBRARIES" go build \
      -ldflags "-X conversation.DriverVersion=$(go_version "$package")" -o "$INSTALLED/go/$program" "$program"
  done <<'END'
with_pgx golang-github-jackc-pgx-v4-dev
with_pq golang-github-lib-pq-dev
END
  remember go "${sources[@]}"
}

mkdir -p "$INSTALLED"
install_packages
install_python
install_node
build_java
build_go
