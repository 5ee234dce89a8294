#!/bin/busybox sh
# shellcheck shell=dash
# The first program of a guest: loads the modules, finds the disk's packed files, lays memory over them, and goes there.
B=/bin/busybox

$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
for module in /lib/*.ko; do
    $B insmod "$module" 2>/dev/null
done

# Which name the disk has depends on how it is attached, and it may take a moment to appear.
tries=0
found=
while [ -z "$found" ] && [ $tries -lt 100 ]; do
    for part in /dev/vd?2 /dev/sd?2 /dev/hd?2; do
        [ -b "$part" ] || continue
        $B mount -t squashfs -o ro "$part" /ro 2>/dev/null || continue
        if [ -x /ro/usr/lib/bitdew/init ]; then
            found=$part
            break
        fi
        $B umount /ro
    done
    [ -n "$found" ] || $B sleep 0.1
    tries=$((tries + 1))
done
if [ -z "$found" ]; then
    echo "bitdew-guest: no disk with the guest's files was found"
    $B poweroff -f
fi

$B mount -t tmpfs -o mode=755 tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work overlay /new
for folder in dev proc sys; do
    $B mount -o move /$folder /new/$folder
done
exec $B switch_root /new /usr/lib/bitdew/init
