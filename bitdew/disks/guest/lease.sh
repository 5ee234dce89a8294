#!/bin/sh
# shellcheck disable=SC2154 # udhcpc sets them
# Called by udhcpc with what the network's DHCP service gave.
if [ "$1" = bound ] || [ "$1" = renew ]; then
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "${router%% *}"
    : >/etc/resolv.conf
    for server in $dns; do
        echo "nameserver $server" >>/etc/resolv.conf
    done
fi
exit 0
