#!/usr/bin/env bash
# Makes sure that Prometheus and promtool are here: the tests start them to try the dashboards and the alerts. Does nothing
# where they are found.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

readonly PACKAGE=prometheus

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
  exit 0
fi
need_apt "prometheus and promtool" "$PACKAGE"
echo "Prometheus was not found: installing Debian's package '$PACKAGE' by apt-get, without a server that runs by itself."
apt_install_or_update "$PACKAGE"
# The package starts a server on port 9090, which nobody asked for.
if [[ -d /run/systemd/system ]]; then
  $SUDO systemctl disable --now "$PACKAGE"
fi
