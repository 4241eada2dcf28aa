#!/bin/sh
# Packs the guest's initrd: busybox and the files of tests/linux/root, the same bytes on every machine.
#
# No device nodes, so no root is needed: the kernel's devtmpfs has them.
set -eu
. "$(dirname "$0")/common.sh"

OUT=$TARGET/guests/initrd.gz
TREE=$TARGET/guests/initrd.tree

rm -rf "$TREE"
mkdir -p "$TREE/bin" "$TREE/sbin" "$TREE/usr/bin" "$TREE/usr/sbin" "$TREE/dev" "$TREE/proc" "$TREE/sys" \
    "$TREE/tmp" "$TREE/run" "$TREE/root"
cp "$TARGET/guests/cache/busybox" "$TREE/bin/busybox"
cp -R "$ROOT/tests/linux/root/." "$TREE/"
find "$TREE" -type d -exec chmod 755 {} +
find "$TREE" -type f -exec chmod 644 {} +
chmod 755 "$TREE/bin/busybox" "$TREE/etc/rc" "$TREE/init"
find "$TREE" -exec touch -h -d @0 {} +
(cd "$TREE" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$OUT.cpio"
gzip -n -9 <"$OUT.cpio" >"$OUT.tmp"
mv "$OUT.tmp" "$OUT"
rm -rf "$OUT.cpio" "$TREE"
