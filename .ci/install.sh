#!/bin/sh
# Installs affiant, after it has looked at what it installs: every file must have the digest that this
# script names, and the gate, by the release's signed policy, must say that the release's pipeline made it.
#
#     sh install.sh [--prefix FOLDER] [--from FOLDER|URL]
#
# --prefix  where bin/ and share/ are; default /usr/local for root and ~/.local for others
# --from    where the files of the release lie; default, where this script comes from
set -eu

# The three lines that a release fills in (.ci/release seal).
version=
from=
digests=

prefix=
die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --from) [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value" ;;
    esac
    case $1 in
        --prefix) prefix=$2 && shift ;;
        --from) from=$2 && shift ;;
        *) die "$1 is not known: install.sh [--prefix FOLDER] [--from FOLDER|URL]" ;;
    esac
    shift
done
[ -n "$digests" ] || die "this script belongs to no release and knows no digest: take the install.sh of a release"
[ -n "$from" ] || die "name where the files of the release lie: --from FOLDER or --from URL"
if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?HOME is not set: name a folder with --prefix}/.local; fi
fi

case $(uname -s)-$(uname -m) in
    Linux-x86_64) binary=affiant-linux-amd64 ;;
    Linux-aarch64 | Linux-arm64) binary=affiant-linux-arm64 ;;
    *) die "there is no affiant for $(uname -s) on $(uname -m)" ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/affiant-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' INT TERM HUP

fetch() {
    case $from in
        http://*@*) die "a user in an address is not taken" ;;
        https://* | http://127.0.0.1[:/]* | http://localhost[:/]*)
            if command -v curl >/dev/null; then
                curl --fail --silent --show-error --location --proto '=https,http' --proto-redir '=https' \
                    --retry 3 --max-time 300 --max-filesize 200000000 --output "$work/$1" -- "$from/$1"
            elif command -v wget >/dev/null; then
                wget -q -T 60 -O "$work/$1" -- "$from/$1"
            else
                die "neither curl nor wget is there: fetch the files of the release and name their folder with --from"
            fi
            ;;
        *://*) die "$from is not fetched: only https, or http from this machine" ;;
        *) cp -- "$from/$1" "$work/$1" ;;
    esac || die "$1 cannot be had from $from"
}

# Each file is looked at before anything is done with it.
want() {
    wanted=$(printf '%s' "$digests" | while read -r name digest; do [ "$name" != "$1" ] || echo "$digest"; done)
    [ -n "$wanted" ] || die "release $version has no $1"
    fetch "$1"
    found=$(sha256sum "$work/$1" | cut -c1-64)
    [ "$found" = "$wanted" ] || die "$1 from $from is not that of $version: its SHA-256 is $found, and $wanted was expected. Nothing was installed"
}

for file in "$binary" affiant-share.tar.gz evidence.jsonl release-policy.signed.json release-policy.pub; do want "$file"; done
chmod 755 "$work/$binary"
"$work/$binary" version >"$work/version" || die "$work/$binary cannot be run (a folder without execution? set TMPDIR to another)"

# The binary is that of the release by its digest; now it says, from signed evidence, how it was made.
"$work/$binary" verify --offline --policy "$work/release-policy.signed.json" --publickey "$work/release-policy.pub" \
    --attestations "$work/evidence.jsonl" "$work/$binary" >"$work/verdict" 2>&1 || {
    cat "$work/verdict" >&2
    die "the gate denies $binary. Nothing was installed"
}

mkdir -p "$prefix/bin" || die "$prefix cannot be written: run this as another user, or name a folder with --prefix"
# Both in one folder, so that the old file is there until the new one is.
cp "$work/$binary" "$prefix/bin/.affiant.$$" && mv -f "$prefix/bin/.affiant.$$" "$prefix/bin/affiant" || {
    rm -f "$prefix/bin/.affiant.$$"
    die "$prefix/bin cannot be written: run this as another user, or name a folder with --prefix"
}
(cd "$prefix" && gzip -dc "$work/affiant-share.tar.gz" | tar -xf - ) ||
    printf 'install: manual pages and completions could not be put into %s/share\n' "$prefix" >&2

cat "$work/version"
echo "installed as $prefix/bin/affiant; its digest is that of $version, and the gate passed it by the release's policy"
case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) echo "hint: $prefix/bin is not on your PATH" ;;
esac
echo "next: affiant doctor -- make"
