#!/bin/bash
# base-image.sh [TAG]: make a base image of Debian packages, for machines that cannot pull python:3.12-slim.
#
# Needs root, a container engine and a Debian archive; installs mmdebstrap if it is not there. Half a minute, 120 MB.
set -euo pipefail
tag=${1:-p2pdns-base:bookworm}
suite=${tag##*:}

if ! command -v mmdebstrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo 'p2pdns: error: mmdebstrap is not installed' >&2
        echo 'p2pdns: hint: sudo apt-get install mmdebstrap' >&2
        exit 2
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi

# "custom" starts from nothing, so that usr-is-merged is taken where the other variants take usrmerge and, with it,
# 50 MB of perl. A pattern ends a list of packages, hence two --include.
arguments=(--quiet --variant=custom --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr)
arguments+=('--include=?essential' --include=usr-is-merged,apt,python3,python3-venv,ca-certificates)
arguments+=('--aptopt=Acquire::Languages "none"')
for place in doc man info locale lintian; do
    arguments+=("--dpkgopt=path-exclude=/usr/share/$place/*")
done
arguments+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')

# A network that inspects TLS has a certificate of its own, which the host trusts and pip in the image has to.
extra=/usr/local/share/ca-certificates
if compgen -G "$extra/*.crt" >/dev/null; then
    arguments+=("--customize-hook=copy-in $extra /usr/local/share")
    arguments+=('--customize-hook=chroot "$1" update-ca-certificates >/dev/null')
fi

trouble=$(mktemp -t p2pdns-base.XXXXXX)
trap 'rm -f "$trouble"' EXIT
if ! mmdebstrap "${arguments[@]}" "$suite" - 2>"$trouble" |
    docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' - "$tag" >/dev/null; then
    cat "$trouble" >&2
    # A tar that ended early has been imported all the same.
    docker image rm "$tag" >/dev/null 2>&1 || true
    echo "p2pdns: error: $tag could not be made" >&2
    exit 1
fi
version=$(docker run --rm --network none "$tag" python3 -c 'import sqlite3, ssl, sys, venv; print(sys.version.split()[0])')
echo "p2pdns: made $tag, Python $version" >&2
