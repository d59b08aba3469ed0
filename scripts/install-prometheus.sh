#!/usr/bin/env bash
# Makes sure that Prometheus and promtool are here: the tests start them to try the dashboards and the alerts. Does nothing
# where they are found.
set -euo pipefail

readonly PACKAGE=prometheus

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  printf '%s\n' "prometheus and promtool are needed and were not found." \
    "Install them with this system's package manager, then run this again." >&2
  exit 1
fi
if [[ $(id -u) -eq 0 ]]; then
  SUDO=
elif sudo -n true 2>/dev/null; then
  SUDO='sudo -n'
else
  printf '%s\n' "prometheus and promtool are needed and were not found. Install them by" \
    "    sudo apt-get install $PACKAGE" "and run this again." >&2
  exit 1
fi
echo "Prometheus was not found: installing Debian's package '$PACKAGE' by apt-get, without a server that runs by itself."
apt_install() {
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$PACKAGE"
}
apt_install || { $SUDO apt-get update && apt_install; }
# The package starts a server on port 9090, which nobody asked for.
if [[ -d /run/systemd/system ]]; then
  $SUDO systemctl disable --now "$PACKAGE"
fi
