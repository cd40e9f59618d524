#!/bin/sh
# publisher.sh [FLAG...]: a daemon that publishes every zone file in /zones, under a key made at the first start.
#
# The keys are /var/lib/p2pdns/keys/NAME.key for /zones/NAME.zone; {zone:NAME} in a file is the key of NAME.zone.
# A file is published when it is new or has changed since; everything else the daemon keeps alive by itself, for what
# it has published once is in its state. FLAGs are those of "p2pdns serve".
set -eu
zones=${ZONES:-/zones}
keys=$STATE_DIRECTORY/keys
published=$STATE_DIRECTORY/published
contacts=${CONTACTS:-1} # A zone that is put while the others are still joining is kept by few of them.
TRIES=60                # a second each, for either wait

mkdir -p -m 0700 "$keys" "$published"

# In the background, so that a signal which stops the container stops the daemon first.
p2pdns serve "$@" &
daemon=$!
trap 'kill -TERM "$daemon"' TERM INT

healthy() {
    python -I -S "$(dirname "$0")/healthcheck.py" --contacts "$contacts"
}

# Do something until it succeeds, the daemon has ended, or it was tried often enough.
patiently() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        if [ "$tries" -ge "$TRIES" ] || ! kill -0 "$daemon" 2>/dev/null; then
            return 1
        fi
        sleep 1
    done
}

publish() {
    # What {zone:…} stands for belongs to what is published.
    sum=$(cat "$zones/$1.zone" "$keys/.flags" | sha256sum)
    if [ "$(cat "$published/$1" 2>/dev/null || true)" = "$sum" ]; then
        return 0
    fi
    # The file is what counts here, however much of the zone goes. An earlier version of the program has published
    # without a note beside the key.
    agreed=--yes
    if [ -e "$published/$1" ] && [ ! -e "$keys/$1.key.published" ]; then
        agreed="--yes --force"
    fi
    # The flags hold neither blanks nor patterns: names of files in /zones, and zone keys.
    # shellcheck disable=SC2046,SC2086
    p2pdns publish $agreed -k "$keys/$1.key" $(cat "$keys/.flags") "$zones/$1.zone" || return 1
    printf '%s\n' "$sum" >"$published/$1"
}

names=
for file in "$zones"/*.zone; do
    name=$(basename "$file" .zone)
    names="$names $name"
    [ -e "$keys/$name.key" ] || p2pdns keygen -o "$keys/$name.key"
done
for name in $names; do
    printf '%s\n' "--zone=$name=$(p2pdns pubkey "$keys/$name.key")"
done >"$keys/.flags"

patiently healthy >/dev/null || echo "publisher: fewer than $contacts contacts; publishing to those there are" >&2
for name in $names; do
    patiently publish "$name" || echo "publisher: $name.zone is not published; the next start tries again" >&2
done

# A signal ends a wait before the daemon has ended.
status=0
while kill -0 "$daemon" 2>/dev/null; do
    status=0
    wait "$daemon" || status=$?
done
exit "$status"
