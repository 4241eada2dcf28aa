#!/bin/sh
# The newest QEMU that the machine's package sources offer, with -backports added where theirs is too old.
set -eu
. "$(dirname "$0")/common.sh"

LIST=/etc/apt/sources.list.d/mezzanine-backports.list

# 'VERSION SUITE' of the newest qemu-system-arm on offer; versions without their epoch.
newest() {
    apt-cache madison qemu-system-arm 2>/dev/null | awk -F'|' '
        { gsub(/ /, "", $2); sub(/^[0-9]+:/, "", $2); split($3, part, " "); sub("/.*", "", part[2])
          split($2, number, /[^0-9]+/); rank = number[1] * 1000 + number[2]
          if (rank > best) { best = rank; answer = $2 " " part[2] } }
        END { if (best) print answer }'
}

add_backports() {
    suite=$(codename)
    [ -n "$suite" ] || return 1
    apt_sources | awk -v suite="$suite" '$1 == suite { print; exit }' >"$STATE/main-source"
    read -r _ uri options <"$STATE/main-source" || return 1
    say "adding $suite-backports of this machine's own mirror to apt's sources ($LIST), for a newer QEMU"
    # A key that stood inside the source lies in this tree; root's configuration must not point there.
    case $options in
    *signed-by="$STATE"/*)
        as_root install -D -m 644 "$STATE/keys/${options##*/}" /etc/apt/keyrings/mezzanine-backports.asc
        options=signed-by=/etc/apt/keyrings/mezzanine-backports.asc
        ;;
    esac
    echo "deb ${options:+[$options] }$uri $suite-backports main" >"$STATE/backports.list"
    as_root install -m 644 "$STATE/backports.list" "$LIST"
    if ! retry "apt-get update" apt update; then
        say "this mirror has no $suite-backports; leaving it out again"
        as_root rm -f "$LIST"
        apt_update again
        return 1
    fi
}

if ! qemu_is_new; then
    need_apt
    apt_update
    on_offer=$(newest)
    if ! at_least "${on_offer%% *}" $MIN_QEMU && add_backports; then
        on_offer=$(newest)
    fi
    [ -n "$on_offer" ] || die "apt's sources offer no qemu-system-arm"
    APT_SUITE=${on_offer#* }
    apt_install "QEMU ${on_offer%% *}, the machine that Mezzanine runs on" qemu-system-arm
    qemu_is_new || say "QEMU $MIN_QEMU is not on offer here; tests that need it are skipped"
fi
say "QEMU is $(version_of qemu-system-aarch64 --version)"
