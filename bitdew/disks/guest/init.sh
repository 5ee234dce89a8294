#!/bin/sh
# The guest's own first program: network, seed, the user's script, the worker; then the power goes off.
#
# The seed is a CD or disk labelled `cidata`, after cloud-init's NoCloud. Read from it are `meta-data`, lines of `key: value`
# (instance-id, local-hostname, bitdew-url, bitdew-token), and `user-data`, which is run if it begins with `#!`.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=linux
SEED=/run/seed

say() {
    read -r up _ </proc/uptime
    echo "bitdew-guest: $* (${up}s)"
}

power_off() {
    say "power off"
    sync
    poweroff -f
}

# The value of a key in the seed's meta-data: its first line counts, and quotes around it don't.
told() {
    [ -f $SEED/meta-data ] || return 0
    sed -n "s/^$1:[[:space:]]*//p" $SEED/meta-data | head -n 1 | tr -d '\r' |
        sed -e 's/[[:space:]]*$//' -e "s/^'\(.*\)'\$/\1/" -e 's/^"\(.*\)"$/\1/'
}

# The power button of ACPI: whoever stops the machine presses it.
watch_button() {
    for device in /sys/class/input/event*; do
        [ "$(cat "$device/device/name" 2>/dev/null)" = "Power Button" ] || continue
        (
            dd if="/dev/input/${device##*/}" of=/dev/null bs=24 count=1 2>/dev/null
            say "the power button was pressed"
            [ ! -f /run/worker.pid ] || kill -TERM "$(cat /run/worker.pid)" 2>/dev/null
            sleep 5
            power_off
        ) &
    done
}

bring_up_network() {
    ip link set lo up
    interface=
    for device in /sys/class/net/*; do
        [ "${device##*/}" = lo ] || interface=${interface:-${device##*/}}
    done
    [ -n "$interface" ] || { say "no network"; return; }
    ip link set "$interface" up
    if ! udhcpc -i "$interface" -n -q -t 5 -T 1 -s /usr/lib/bitdew/lease >/dev/null 2>&1; then
        # What hypervisors' own networks give where their DHCP is silent.
        ip addr add 10.0.2.15/24 dev "$interface"
        ip route add default via 10.0.2.2
        echo "nameserver 10.0.2.3" >/etc/resolv.conf
    fi
    say "network: $(ip -4 -o addr show dev "$interface" | sed -n 's/.*inet \([^ ]*\).*/\1/p')"
}

# A disk is the seed by its label, which ISO 9660 keeps 32808 bytes from its beginning.
find_seed() {
    mkdir -p $SEED
    for device in /dev/sr? /dev/vd? /dev/sd?; do
        [ -b "$device" ] || continue
        label=$(dd if="$device" bs=8 skip=4101 count=4 2>/dev/null | tr -d ' \000' | tr '[:upper:]' '[:lower:]')
        [ "$label" = cidata ] || continue
        mount -t iso9660 -o ro,nosuid,nodev,noexec "$device" $SEED 2>/dev/null && say "seed: $device" && return
    done
    say "no seed"
}

# It may have been written anew while the machine was saved. Unmounted, none of it stays in memory.
read_seed_again() {
    umount $SEED 2>/dev/null
    find_seed
}

# A machine that goes on from a snapshot has the time of then; its hardware's clock follows the host's.
set_clock() {
    real=$(cat /sys/class/rtc/rtc0/since_epoch 2>/dev/null) && [ -n "$real" ] || return 0
    behind=$((real - $(date +%s)))
    [ $behind -lt 60 ] || { hwclock -s -u && say "the clock was $behind seconds behind"; }
}

watch_clock() {
    while sleep 10; do
        set_clock
    done &
}

run_script() {
    [ -f $SEED/user-data ] && [ "$(head -c 2 $SEED/user-data)" = '#!' ] || return 0
    cp $SEED/user-data /run/user-script
    chmod 700 /run/user-script
    say "the user's script starts"
    (
        cd /root || exit
        /run/user-script </dev/null
        code=$?
        echo $code >/run/user-script.ended
        say "the user's script ended with $code"
    ) &
    script=$!
}

# Joins, however long the service stays unreachable. Any other end of the worker is the end, unless the seed has another token
# by now: the machine went back to a snapshot, where the worker's own was spent or has expired.
run_worker() {
    say "the worker starts"
    # A machine of the grid holds nothing of anybody's: jobs may run what they like, and take all of it but what the
    # system needs.
    export BITDEW_WORKER_JOBS=anything
    BITDEW_WORKER_CPUS=$(nproc)
    BITDEW_WORKER_MEMORY=$(awk '/^MemTotal:/ { print int($2 * 1024 * 0.8) }' /proc/meminfo)
    export BITDEW_WORKER_CPUS BITDEW_WORKER_MEMORY
    # What the disk has for jobs, as its recipe says.
    [ ! -f /etc/bitdew/sharings.toml ] || export BITDEW_WORKER_SHARINGS_FILE=/etc/bitdew/sharings.toml
    while true; do
        token=$(told bitdew-token)
        PYTHONPATH=/opt/bitdew python3 -P -m bitdew worker join "$(told bitdew-url)" --token "$token" --name "$1" \
            --home /var/lib/bitdew </dev/null &
        echo $! >/run/worker.pid
        wait $!
        code=$?
        [ $code -ne 0 ] || break
        set_clock
        read_seed_again
        fresh=$(told bitdew-token)
        if [ $code -eq 6 ]; then
            say "the service is not reachable; next try in 5 seconds"
            sleep 5
        elif [ -n "$fresh" ] && [ "$fresh" != "$token" ]; then
            say "the seed has another token: the worker joins again"
        else
            break
        fi
    done
    say "the worker ended with $code"
}

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
exec </dev/console >/dev/console 2>&1
say "started"

watch_button
watch_clock
bring_up_network
find_seed
name=$(told local-hostname | tr -cd 'A-Za-z0-9.-' | head -c 63)
[ -n "$name" ] || name=$(cat /etc/hostname)
hostname "$name"
script=
run_script
if [ -n "$(told bitdew-url)" ] && [ -n "$(told bitdew-token)" ] && [ -d /opt/bitdew/bitdew ]; then
    run_worker "$name"
elif [ -n "$script" ]; then
    wait "$script"
else
    say "nothing to do: the seed names no service and has no script"
fi
power_off
