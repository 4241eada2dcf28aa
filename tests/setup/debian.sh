# Files out of Debian's arm64 packages, whatever the machine itself is.
#
# Sourced after common.sh. apt fetches and verifies them with a configuration, lists and state of its own under
# target/: no root, no foreign architecture in the machine's dpkg. The mirror and its keys are those of the machine.

RELEASE=bookworm
CACHE=$TARGET/guests/cache

# private_sources SUITE: the machine's Debian sources, with SUITE in place of the machine's own. A suite's updates and
# security fixes come along, except those of backports, which have none.
private_sources() {
    apt_sources | awk -v own="$(codename)" -v release="$1" '
        { suite = $1; tail = ""
          if (match(suite, /[-\/](updates|security)$/)) { tail = substr(suite, RSTART); suite = substr(suite, 1, RSTART - 1) }
          if (suite != own && suite !~ /^(oldstable|stable|testing|unstable|sid)$/) next
          if (tail != "" && release ~ /-backports$/) next
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

# private COMMAND ...: one of apt's programs on the suite that open_suite chose. Bars only where somebody looks.
private() {
    command=$1
    shift
    if [ -t 1 ]; then quiet=; else quiet=-q; fi
    "$command" $quiet -c "$PRIVATE/apt.conf" "$@"
}

# open_suite SUITE: reads its arm64 package lists; or fails with a sentence in $why.
open_suite() {
    PRIVATE=$CACHE/apt/$1
    mkdir -p "$PRIVATE/state/lists/partial" "$PRIVATE/cache/archives/partial"
    : >"$PRIVATE/status"
    private_config >"$PRIVATE/apt.conf"
    private_sources "$1" >"$PRIVATE/sources.list"
    if [ ! -s "$PRIVATE/sources.list" ]; then
        why="apt's sources on this machine name no Debian mirror"
        return 1
    fi
    say "reading the arm64 package lists of $1 (kept apart from the machine's own)"
    # A suite that cannot be reached is a mere warning to apt, so what counts is whether its lists arrived.
    retry "reading the package lists" private apt-get update && [ -n "$(private apt-cache pkgnames)" ] && return
    why="this machine's Debian mirror has no $1 for arm64, or cannot be reached"
    return 1
}

# kernel_of PACKAGE: the package with the kernel itself, which Debian's linux-image-FLAVOUR depend on.
kernel_of() {
    private apt-cache depends --no-recommends --no-suggests "$1" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

# megabytes_of PACKAGE: what fetching it takes.
megabytes_of() {
    private apt-cache show --no-all-versions "$1" 2>/dev/null |
        awk '$1 == "Size:" { print int($2 / 1000000 + 0.5); exit }'
}

# fetch PACKAGE: into the cache, in place of another version of it.
fetch() {
    rm -f "$CACHE/$1"_*.deb
    (cd "$CACHE" && retry "fetching $1" private apt-get download "$1")
}

# take PACKAGE PATTERN DESTINATION: one file out of a fetched package, whole or not at all.
take() {
    package=$(find "$CACHE" -maxdepth 1 -name "$1_*.deb" | head -n 1)
    [ -n "$package" ] || die "$1 was fetched, but its package is not in $CACHE"
    mkdir -p "$(dirname "$3")"
    dpkg-deb --fsys-tarfile "$package" | tar -xO --wildcards "$2" >"$3.tmp" && [ -s "$3.tmp" ] ||
        die "$(basename "$package") holds no $2"
    mv "$3.tmp" "$3"
}

# take_modules PACKAGE FOLDER: what Linux needs beside a kernel of Debian's to tell its programs of the power key, as
# FOLDER/modules/VERSION/NAME, packed as they come. Some kernels lack one of them, so there may be fewer or none.
take_modules() {
    package=$(find "$CACHE" -maxdepth 1 -name "$1_*.deb" | head -n 1)
    rm -rf "$2/modules.tmp" "$2/modules"
    mkdir -p "$2/modules.tmp"
    [ -z "$package" ] || dpkg-deb --fsys-tarfile "$package" |
        tar -x -C "$2/modules.tmp" --transform 's,^.*/modules/\([^/]*\)/.*/,\1/,' --wildcards \
            './*lib/modules/*/input/evdev.ko*' './*lib/modules/*/keyboard/gpio_keys.ko*' 2>/dev/null || :
    mv "$2/modules.tmp" "$2/modules"
}
