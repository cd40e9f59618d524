#!/bin/sh
# The machine between the two sides of the testbed, and its only way in.
#
# Both bridges were told to take no address, so that the .1 which every node has as its gateway is free for this
# container. It routes between the sides, hands DNS questions that arrive on the access leg to the resolver, and lets
# nothing out: what a node sends to any other place is counted in "outside" and dropped here, and there is no other way.
# Faults are elements of the set "cut" (addresses and networks that nothing is routed from or to) and rules in the
# chain "link".
set -eu

interface_of() {
    # With several networks the numbers of the interfaces differ from start to start; the addresses do not.
    ip -o -4 address show to "$1" | awk '{ print $2; exit }'
}

west=$(interface_of 10.91.1.2/32)
east=$(interface_of 10.91.2.2/32)
access=$(ip -o -4 route show default | awk '{ print $5; exit }')
if [ -z "$west" ] || [ -z "$east" ] || [ -z "$access" ] || [ "$access" = "$west" ] || [ "$access" = "$east" ]; then
    echo "router: legs not as expected: west '$west', east '$east', access '$access'" >&2
    exit 1
fi

ip address add 10.91.1.1/24 dev "$west"
ip address add 10.91.2.1/24 dev "$east"

nft -f - <<RULES
table ip door {
    chain arriving {
        type nat hook prerouting priority dstnat;
        iifname "$access" udp dport 53 dnat to 10.91.2.20
        iifname "$access" tcp dport 53 dnat to 10.91.2.20
    }
    chain leaving {
        type nat hook postrouting priority srcnat;
        ct status dnat oifname "$east" masquerade
    }
}
table inet faults {
    counter cut { comment "packets from or to a place that is cut off" }
    counter outside { comment "packets that a node sent to a place outside the testbed" }
    counter answers { comment "packets back to whoever asked on the published port" }
    set cut { type ipv4_addr; flags interval; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        oifname "$access" ct state { established, related } ct status dnat counter name answers accept
        oifname "$access" counter name outside drop
        ip saddr @cut counter name cut drop
        ip daddr @cut counter name cut drop
        jump link
    }
    chain link { }
    chain output {
        type filter hook output priority filter; policy accept;
        oifname "$access" counter name outside drop
    }
}
RULES

# Without a default route a packet to anywhere else would die before it is counted, so the route stays.
touch /run/ready
exec sleep infinity
