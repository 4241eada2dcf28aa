# What the set-up scripts share: words, retries, apt as root or by sudo, and what a machine lacks.
#
# Sourced, never run. Plain POSIX sh and awk: a fresh Debian has neither curl nor Python.

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
TARGET=${MEZZ_TARGET_DIR:-$ROOT/target}
STATE=$TARGET/setup
MIN_RUST=1.95
MIN_QEMU=9
METAL_TARGET=aarch64-unknown-none-softfloat
mkdir -p "$STATE"

say() {
    printf '== %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# retry WHAT COMMAND...: three attempts, since mirrors hiccup.
retry() {
    what=$1
    shift
    for pause in 5 20 stop; do
        if "$@"; then
            return 0
        fi
        [ "$pause" = stop ] && return 1
        say "$what failed; trying again in $pause seconds"
        sleep "$pause"
    done
}

# at_least HAVE WANT: compares dotted versions number by number.
at_least() {
    awk -v have="$1" -v want="$2" 'BEGIN {
        split(have, h, "."); n = split(want, w, ".")
        for (i = 1; i <= n; i++) if (h[i] + 0 != w[i] + 0) exit !(h[i] + 0 > w[i] + 0)
    }'
}

# version_of COMMAND...: the first dotted number that the command prints.
version_of() {
    "$@" 2>/dev/null | awk 'match($0, /[0-9]+\.[0-9]+(\.[0-9]+)?/) { print substr($0, RSTART, RLENGTH); exit }'
}

rustup_has_target() {
    have rustup && rustup target list --installed 2>/dev/null | grep -qx "$METAL_TARGET"
}

debian_rust_is_ready() {
    for file in /usr/bin/rustc /usr/bin/cargo /usr/src/rustc-*/library/core/Cargo.toml; do
        [ -e "$file" ] || return 1
    done
    at_least "$(version_of /usr/bin/rustc --version)" $MIN_RUST && have ld.lld
}

qemu_is_new() {
    have qemu-system-aarch64 && at_least "$(version_of qemu-system-aarch64 --version)" $MIN_QEMU
}

guest_is_there() {
    [ -s "$TARGET/guests/debian-6.1/Image" ] && [ -s "$TARGET/guests/cache/busybox" ]
}

# Everything that this machine lacks, in the words of somebody who has to install it by hand.
print_missing() {
    have cc || echo "  a C compiler as 'cc' (Debian: gcc libc6-dev)"
    have objcopy || echo "  objcopy (Debian: binutils)"
    have cpio || echo "  cpio"
    [ -x /bin/kill ] || [ -x /usr/bin/kill ] || echo "  kill as a program (Debian: procps)"
    rustup_has_target || debian_rust_is_ready ||
        echo "  Rust $MIN_RUST or newer for $METAL_TARGET: 'rustup target add $METAL_TARGET'," \
            "or Debian's rustc-web cargo-web rust-web-src rust-web-clippy lld"
    qemu_is_new ||
        echo "  QEMU $MIN_QEMU or newer with qemu-system-aarch64 (Debian: qemu-system-arm, for Debian 12 from -backports)"
    guest_is_there || have apt-get || {
        echo "  a plain arm64 Linux 6.1 kernel Image as $TARGET/guests/debian-6.1/Image (Debian: linux-image-arm64)"
        echo "  a static arm64 busybox as $TARGET/guests/cache/busybox (Debian: busybox-static)"
    }
}

die_by_hand() {
    {
        echo "error: $1, so set-up cannot go on by itself; please install, then run make again:"
        print_missing
    } >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Stops with a list of what to install unless this person may install Debian packages.
need_apt() {
    have apt-get && have dpkg-query || die_by_hand "this machine has no apt"
    [ "$(id -u)" = 0 ] && return
    have sudo || die_by_hand "you are not root and there is no sudo"
    sudo -n true 2>/dev/null && return
    [ -t 0 ] || die_by_hand "sudo wants a password and there is no terminal to ask on"
    say "sudo may ask for your password, to install packages"
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"
}

# The package lists, once for a few hours: asking for each package would be slow and rude to mirrors.
apt_update() {
    if [ "${1-}" != again ] && [ -n "$(find "$STATE/apt-update" -mmin -240 2>/dev/null)" ]; then
        return
    fi
    say "refreshing the package lists (apt-get update)"
    retry "apt-get update" apt update || die "apt-get update failed; the lines above name the source that it could not read"
    : >"$STATE/apt-update"
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt_install WHY PACKAGE...; APT_SUITE, where set, is preferred for them and what they need.
apt_install() {
    why=$1
    shift
    say "installing $* ($why)"
    retry "apt-get install" apt install -y --no-install-recommends ${APT_SUITE:+-t "$APT_SUITE"} "$@" ||
        die "apt-get could not install $*; the lines above say why"
}

# The machine's own package sources as lines 'SUITE URI OPTION...', whichever of apt's two formats they are in.
# A key that stands inside a source is written to a file, for those who quote the line.
apt_sources() {
    set --
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] && set -- "$@" "$file"
    done
    [ $# -gt 0 ] || return 0
    mkdir -p "$STATE/keys"
    awk -v keys="$STATE/keys" -f "$ROOT/tests/setup/sources.awk" "$@"
}

codename() {
    # shellcheck disable=SC1091
    (. /etc/os-release && echo "${VERSION_CODENAME-}")
}
