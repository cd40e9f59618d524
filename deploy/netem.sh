#!/bin/sh
# Impair what leaves this network namespace by the kernel's netem, with its words, until SIGTERM or SIGINT.
#
#   netem delay 100ms 20ms loss 10%
#
# Runs as long as the fault is on, and says so in the same words as `impair` does, so that both are found and ended
# alike. A device that refuses netem ends it, and those before it are as they were. Without words it prints "there" if
# the kernel has netem at all, tried on a device that goes with this namespace.
if [ "$#" = 0 ]; then
    ip link add trial type veth peer name lairt && tc qdisc add dev trial root netem delay 1ms && echo there
    exit
fi
devices=$(ip -o -4 address show scope global | awk '{ print $2 }' | sort -u)
undo() {
    for device in $devices; do tc qdisc del dev "$device" root; done
    kill "$waiting"
    exit "$1"
}
sleep infinity &
waiting=$!
trap 'undo 0' TERM INT
for device in $devices; do tc qdisc add dev "$device" root netem "$@" || undo 1; done
echo '{"event": "up"}'
wait
