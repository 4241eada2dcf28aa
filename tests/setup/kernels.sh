#!/bin/sh
# Further Debian kernels for the tests: what Debian 12's backports call 6.12, in its four builds.
#
# A kernel that cannot be had does not stop anything: its folder gets a file `absent` with the reason, by which
# tests/linux.rs counts its trials as skipped. It is looked for again after some hours.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

SUITE=$RELEASE-backports

# Folder under target/guests, and Debian's package that depends on the newest such kernel.
KERNELS='debian-6.12 linux-image-arm64
debian-6.12-cloud linux-image-cloud-arm64
debian-6.12-rt linux-image-rt-arm64
debian-6.12-16k linux-image-arm64-16k'

# Those to look for now, in the same two columns.
missing() {
    echo "$KERNELS" | while read -r folder package; do
        folder=$TARGET/guests/$folder
        [ -s "$folder/Image" ] && [ -d "$folder/modules" ] || [ -n "$(find "$folder/absent" -mmin -240 2>/dev/null)" ] || echo "$folder $package"
    done
}

# absent FOLDER WHY
absent() {
    mkdir -p "$1"
    echo "$2" >"$1/absent"
    say "no $(basename "$1"): $2; tests that need it are skipped"
}

# bring FOLDER PACKAGE: the kernel on which PACKAGE depends, as FOLDER/Image.
bring() {
    kernel=$(kernel_of "$2")
    if [ -z "$kernel" ]; then
        absent "$1" "this machine's Debian mirror offers no $2 in $SUITE"
        return
    fi
    case $kernel in
    linux-image-6.12.*) ;;
    *)
        absent "$1" "$2 of $SUITE is now $kernel, not 6.12"
        return
        ;;
    esac
    say "fetching $kernel ($(megabytes_of "$kernel") MB), kernel $number of $count for the tests"
    if ! fetch "$kernel"; then
        absent "$1" "$kernel of $SUITE could not be fetched"
        return
    fi
    take "$kernel" './boot/vmlinuz-*' "$1/Image"
    take_modules "$kernel" "$1"
    # Its other modules are most of it, and nobody needs them.
    rm -f "$CACHE/$kernel"_*.deb "$1/absent"
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0
mkdir -p "$CACHE"
if ! have apt-get || ! have dpkg-deb; then
    why="this machine has no apt to fetch it with"
elif open_suite "$SUITE"; then
    why=
fi
count=$(echo "$wanted" | wc -l)
number=0
echo "$wanted" >"$STATE/kernels"
while read -r folder package; do
    number=$((number + 1))
    if [ -n "$why" ]; then
        absent "$folder" "$why"
    else
        bring "$folder" "$package"
    fi
done <"$STATE/kernels"
