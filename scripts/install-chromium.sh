#!/usr/bin/env bash
# Makes sure that Chromium is here: the tests open the status page in it. Does nothing where it is found.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

readonly PACKAGE=chromium

if command -v chromium >/dev/null; then
  exit 0
fi
need_apt chromium "$PACKAGE"
echo "Chromium was not found: installing Debian's package '$PACKAGE' by apt-get."
apt_install_or_update "$PACKAGE"
