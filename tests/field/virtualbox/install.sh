#!/usr/bin/env bash
# Installs VirtualBox for the field tests into a folder of its own: install.sh [FOLDER]
#
# Debian stable has no VirtualBox and a test machine has no kernel module for it. So a small Debian unstable is made
# below FOLDER (about 3 minutes and 650 MB, once), VirtualBox's own packages are installed there, and its hardened loader
# is put aside for driverless_loader.c. Nothing outside FOLDER is changed. Running it again does nothing.
#
# Needs: root, debootstrap, gcc, and apt sources that name a Debian mirror (or BITDEW_DEBIAN_MIRROR=URL).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-/var/cache/bitdew-test/virtualbox}
root=$folder/root
ready=$folder/ready

fail() {
    printf '\n*** VirtualBox is NOT installed in %s: %s\n' "$folder" "$*" >&2
    exit 1
}
trap 'fail "line $LINENO stopped: $BASH_COMMAND"' ERR

if [ -f "$ready" ]; then
    echo "VirtualBox $(cat "$ready") is already installed in $folder"
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "only root can make a chroot"
for tool in debootstrap gcc dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing (apt-get install $tool)"
done

# The mirror that this machine's apt already uses for Debian itself.
mirror=${BITDEW_DEBIAN_MIRROR:-$(
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' | sed -n 's/ Debian$//p' | head -n 1
)}
[ -n "$mirror" ] || fail "apt names no Debian mirror; run apt-get update, or set BITDEW_DEBIAN_MIRROR"

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
mkdir -p "$folder"
# A run that was interrupted leaves half a system: start over, but never delete through a mount.
if grep -q " $root/" /proc/self/mountinfo; then
    fail "something is still mounted below $root; unmount it first"
fi
rm -rf --one-file-system "$root"

debootstrap --variant=minbase --components=main,contrib sid "$root" "$mirror"

# No service may start inside: the folder is a set of files, not a running system.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

# VirtualBox depends on kernel modules and on a display library that an interpreted, headless guest does not use.
stand_in=$(mktemp -d)
mkdir "$stand_in/DEBIAN"
cat > "$stand_in/DEBIAN/control" <<CONTROL
Package: bitdew-test-no-kernel-module
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Provides: virtualbox-modules, libglx-vendor
Description: stands in for VirtualBox's kernel modules, which these tests do without
CONTROL
dpkg-deb --build "$stand_in" "$root/var/cache/stand-in.deb" >/dev/null
rm -r "$stand_in"

# The mirror may be a frozen copy: how old its index may be is what this machine's own apt says of it.
apt-config dump | grep '^Acquire::Check-' > "$root/etc/apt/apt.conf.d/90as-outside" || true
chroot "$root" apt-get update
chroot "$root" apt-get install --yes --no-install-recommends \
    /var/cache/stand-in.deb virtualbox systemd-standalone-sysusers
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/*

# dpkg keeps the original beside it and would not overwrite ours at an upgrade.
library=/usr/lib/virtualbox
chroot "$root" dpkg-divert --add --rename --divert "$library/VBoxHeadless.hardened" "$library/VBoxHeadless"
gcc -O1 -Wall -Werror -o "$root$library/VBoxHeadless" "$here/driverless_loader.c" -ldl

version=$(chroot "$root" dpkg-query --show --showformat='${Version}' virtualbox)
echo "$version" > "$ready"
echo "VirtualBox $version is installed in $folder"
