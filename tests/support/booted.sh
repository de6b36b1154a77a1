#!/bin/bash
# Boots a systemd of its own over this machine's root, in namespaces: nothing of what it does outlives it.
#
#   booted.sh CGROUP SCRATCH FILES [SOURCE:TARGET ...]
#
# CGROUP is a folder of the unified hierarchy that is made for it, SCRATCH an empty folder, and FILES are copied over
# the root. Each SOURCE is mounted at TARGET. It starts probe.target; its exit status is the one that it is told.
set -euo pipefail
mkdir "$1"
echo $$ >"$1/cgroup.procs"
exec unshare --cgroup --mount --pid --uts --ipc --net --fork --kill-child bash -euo pipefail -c '
    root=$1/root
    mount -t tmpfs tmpfs "$1"
    mkdir "$1"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    for name in run tmp dev; do mount -t tmpfs tmpfs "$root/$name"; done
    for name in null zero full random urandom tty; do cp -a "/dev/$name" "$root/dev/"; done
    mkdir "$root"/dev/{shm,mqueue,pts}
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    cp -rT --no-preserve=ownership "$2" "$root"
    # What touches the kernel of the machine, or takes its time.
    for unit in systemd-{sysctl,modules-load,binfmt,journal-catalog-update,update-done,networkd,logind} ldconfig; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
    done
    for pair in "${@:3}"; do
        mkdir -p "$root${pair#*:}"
        mount --bind "${pair%%:*}" "$root${pair#*:}"
    done
    cd "$root"
    mkdir run/old
    pivot_root . run/old
    umount -l /run/old
    exec env -i container=probe PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --log-target=journal --show-status=no --unit=probe.target
' boot "${@:2}"
