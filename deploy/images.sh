#!/bin/sh
# images.sh: build the two images of the testbed from this checkout, on the first base that can be had:
#
#   1. $BASE_IMAGE, where it is set;
#   2. p2pdns-base:bookworm, where base-image.sh has made it before;
#   3. python:3.12-slim, which is pulled where the network allows it;
#   4. p2pdns-base:bookworm again, made now.
#
# Prints the name of the base. A second build takes seconds: the engine keeps its layers.
set -eu
cd "$(dirname "$0")/.."
ours=p2pdns-base:bookworm
pulled=python:3.12-slim

if ! command -v docker >/dev/null; then
    echo 'p2pdns: error: no container engine: docker is not installed' >&2
    exit 2
fi
if ! trouble=$(docker info --format '{{.ServerVersion}}' 2>&1); then
    echo "p2pdns: error: no container engine answers: $trouble" >&2
    exit 2
fi

has() {
    docker image inspect "$1" >/dev/null 2>&1
}

if [ -n "${BASE_IMAGE:-}" ]; then
    # Ours is made where it is missing; any other is the engine's to find.
    [ "$BASE_IMAGE" != "$ours" ] || has "$ours" || deploy/base-image.sh "$ours"
elif has "$ours"; then
    BASE_IMAGE=$ours
elif has "$pulled" || docker pull -q "$pulled" >/dev/null 2>&1; then
    BASE_IMAGE=$pulled
else
    deploy/base-image.sh "$ours"
    BASE_IMAGE=$ours
fi

# A file, because the words of a build are of interest only when it fails.
log=$(mktemp -t p2pdns-images.XXXXXX)
trap 'rm -f "$log"' EXIT
# Not every shell runs its EXIT trap when a signal ends it.
trap 'exit 130' INT
trap 'exit 143' TERM HUP
for target in node tools; do
    # --force-rm removes the containers of an interrupted build too.
    if ! docker build --force-rm -f deploy/Dockerfile --build-arg "BASE_IMAGE=$BASE_IMAGE" --target "$target" \
        -t "p2pdns-$target:local" . >"$log" 2>&1; then
        cat "$log" >&2
        echo "p2pdns: error: p2pdns-$target:local could not be built" >&2
        exit 1
    fi
done
echo "$BASE_IMAGE"
