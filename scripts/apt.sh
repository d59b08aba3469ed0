# Installing Debian's packages, for the scripts beside this one to source.

# Finds out how apt-get is run as root, in $SUDO; ends the script where that is not possible, and says what is to be done:
# $1 is what was not found, $2 the package that has it.
need_apt() {
  if ! command -v apt-get >/dev/null; then
    printf '%s\n' "Needed and not found: $1." "Install it with this system's package manager, then run this again." >&2
    exit 1
  fi
  if [[ $(id -u) -eq 0 ]]; then
    SUDO=
  elif sudo -n true 2>/dev/null; then
    SUDO='sudo -n'
  else
    printf '%s\n' "Needed and not found: $1. Install it by" "    sudo apt-get install $2" "and run this again." >&2
    exit 1
  fi
}

apt_install() {
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

# The lists of packages may be missing, or older than the archive.
apt_install_or_update() {
  apt_install "$@" || { $SUDO apt-get update && apt_install "$@"; }
}
