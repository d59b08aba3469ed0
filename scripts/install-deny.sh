#!/usr/bin/env bash
# Makes sure that cargo-deny is here, which `make deny` runs. Does nothing where it is found; else it is built from crates.io,
# which takes minutes.
set -euo pipefail

readonly VERSION=0.20.2

if cargo deny --version >/dev/null 2>&1; then
  exit 0
fi
echo "cargo-deny was not found: building it by cargo install."
exec cargo install --locked "cargo-deny@$VERSION"
