#!/usr/bin/env bash
# Makes sure that Chromium is here: the tests open the status page in it. Does nothing where it is found.
set -euo pipefail

readonly PACKAGE=chromium

if command -v chromium >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  printf '%s\n' "chromium is needed and was not found." \
    "Install it with this system's package manager, then run this again." >&2
  exit 1
fi
if [[ $(id -u) -eq 0 ]]; then
  SUDO=
elif sudo -n true 2>/dev/null; then
  SUDO='sudo -n'
else
  printf '%s\n' "chromium is needed and was not found. Install it by" \
    "    sudo apt-get install $PACKAGE" "and run this again." >&2
  exit 1
fi
echo "Chromium was not found: installing Debian's package '$PACKAGE' by apt-get."
apt_install() {
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$PACKAGE"
}
apt_install || { $SUDO apt-get update && apt_install; }
