#!/bin/sh
# The stock Debian 12 arm64 kernel and a static arm64 busybox, out of Debian's packages.
#
# apt fetches and verifies them with a configuration, lists and state of its own under target/: no root,
# no foreign architecture in the machine's dpkg. The mirror and its keys are those of the machine.
set -eu
. "$(dirname "$0")/common.sh"

RELEASE=bookworm
CACHE=$TARGET/guests/cache
PRIVATE=$CACHE/apt

guest_is_there && exit
have apt-get && have dpkg-deb || die_by_hand "this machine has no apt"

# The machine's Debian sources, with the suite of the guest's release in place of the machine's own.
private_sources() {
    apt_sources | awk -v own="$(codename)" -v release=$RELEASE '
        { suite = $1; tail = ""
          if (match(suite, /[-\/](updates|security)$/)) { tail = substr(suite, RSTART); suite = substr(suite, 1, RSTART - 1) }
          if (suite != own && suite !~ /^(oldstable|stable|testing|unstable|sid)$/) next
          options = "arch=arm64"
          for (i = 3; i <= NF; i++) options = options " " $i
          line = "deb [" options "] " $2 " " release tail " main"
          if (!seen[line]++) print line }'
}

private_config() {
    cat <<END
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::NeverAutoRemove;
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$PRIVATE/state";
Dir::State::status "$PRIVATE/status";
Dir::Cache "$PRIVATE/cache";
Dir::Etc::sourcelist "$PRIVATE/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
}

private() {
    command=$1
    shift
    "$command" -q -c "$PRIVATE/apt.conf" "$@"
}

fetch() {
    (cd "$CACHE" && retry "fetching $1" private apt-get download "$1") || die "could not fetch Debian's $1 for arm64"
}

# take PACKAGE PATTERN DESTINATION: one file out of a package, whole or not at all.
take() {
    package=$(find "$CACHE" -maxdepth 1 -name "$1_*.deb" | head -n 1)
    [ -n "$package" ] || die "$1 was fetched, but its package is not in $CACHE"
    mkdir -p "$(dirname "$3")"
    dpkg-deb --fsys-tarfile "$package" | tar -xO --wildcards "$2" >"$3.tmp" && [ -s "$3.tmp" ] ||
        die "$(basename "$package") holds no $2"
    mv "$3.tmp" "$3"
}

mkdir -p "$PRIVATE/state/lists/partial" "$PRIVATE/cache/archives/partial"
: >"$PRIVATE/status"
private_config >"$PRIVATE/apt.conf"
private_sources >"$PRIVATE/sources.list"
[ -s "$PRIVATE/sources.list" ] ||
    die_by_hand "apt's sources on this machine name no Debian mirror to take the guest's kernel from"

say "reading Debian's arm64 package lists (kept apart from the machine's own)"
retry "reading the package lists" private apt-get update ||
    die "apt could not read $RELEASE for arm64; the lines above name the source"

kernel=$(private apt-cache depends --no-recommends --no-suggests linux-image-arm64 |
    awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || die "Debian's sources here offer no linux-image-arm64 of $RELEASE"

rm -f "$CACHE"/*.deb
say "fetching the guest's kernel, $kernel (about 60 MB), and busybox"
fetch "$kernel"
fetch busybox-static
take busybox-static './bin/busybox' "$CACHE/busybox"
chmod 755 "$CACHE/busybox"
take "$kernel" './boot/vmlinuz-*' "$TARGET/guests/debian-6.1/Image"
say "the guest's kernel is Debian's $kernel"
