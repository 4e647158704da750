#!/bin/bash
# box.sh - boots a real systemd as PID 1 in throw-away namespaces, runs one command in it, prints
# its output, shuts the box down, and leaves nothing behind.
#
#   box.sh [options] [--] COMMAND [ARG...]
#
#   -c, --copy SRC:DST    copy a file or a directory of the host into the box before it boots
#   -t, --timeout SECS    the limit for boot and command (60)
#
# Exit status: COMMAND's own; 124 it ran past the limit; 125 the box did not boot; 77 this machine
# can't run one (not root, no cgroup v2, ...).
#
# The box's / is an overlay: the host's file system below, so every program of the host is there, at
# its own path, and a tmpfs above, so nothing that is written reaches the host. It has its own PID,
# mount, UTS, IPC, network (loopback only) and cgroup namespace. Units that the host has enabled are
# not started: /etc/systemd/system starts out empty.
set -euo pipefail
export LC_ALL=C.UTF-8
ME=$(readlink -f "$0")
PATH=$PATH:/usr/sbin:/sbin

die()  { local rc=$1; shift; echo "systemd-box: $*" >&2; exit "$rc"; }
# What systemd-nspawn also withholds: nothing a unit under test should need,
# and everything that would reach past the namespaces.
DROP=-sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override,-audit_control,-audit_read,-wake_alarm,-block_suspend,-sys_pacct

# ---------------------------------------------------------------- stage 2
# PID 1 of the new PID namespace; all namespaces are new. Builds / and execs.
stage2() {
    local host_pid _ r=$BOX_W/root n spec src dst
    read -r host_pid _ < /proc/self/stat        # still the HOST's /proc: our pid out there
    echo "$host_pid" > "$BOX_W/pid1"

    hostname box
    mount -t overlay -o "lowerdir=/,upperdir=$BOX_W/upper,workdir=$BOX_W/work" sdbox-root "$r"
    mount -t proc   -o nosuid,nodev,noexec proc "$r/proc"
    for n in sys irq bus fs sysrq-trigger; do   # global kernel knobs: read-only
        [ -e "$r/proc/$n" ] || continue
        mount --bind "$r/proc/$n" "$r/proc/$n"
        mount -o remount,bind,ro "$r/proc/$n"
    done
    mount --bind "$r/proc/sys/net" "$r/proc/sys/net"   # ours alone: own net namespace
    mount -o remount,bind,rw "$r/proc/sys/net"
    mount -t sysfs   -o ro,nosuid,nodev,noexec sysfs   "$r/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec    cgroup2 "$r/sys/fs/cgroup"

    mount -t tmpfs -o nosuid,mode=755,size=4m tmpfs "$r/dev"
    while read -r n maj min; do
        mknod -m 666 "$r/dev/$n" c "$maj" "$min"
    done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
NODES
    mkdir "$r/dev/pts" "$r/dev/shm"
    mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$r/dev/pts"
    ln -s pts/ptmx "$r/dev/ptmx"
    ln -s /proc/self/fd "$r/dev/fd"
    ln -s fd/0 "$r/dev/stdin"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$r/dev/shm"
    mount -t tmpfs -o nosuid,nodev,mode=755  tmpfs "$r/run"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$r/tmp"

    # A neutral /etc: none of the host's enabled units, generators or mounts.
    rm -rf "$r/etc/systemd/system" "$r/etc/systemd/system-generators"
    mkdir -p "$r"/etc/systemd/{system,system-generators,journald.conf.d}
    for n in "$r"/lib/systemd/system-generators/*; do
        [ -e "$n" ] && ln -s /dev/null "$r/etc/systemd/system-generators/${n##*/}"
    done
    for n in getty.target console-getty.service systemd-logind.service dbus-org.freedesktop.login1.service \
             systemd-sysctl.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
             dev-hugepages.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
             sys-kernel-debug.mount sys-kernel-tracing.mount systemd-modules-load.service \
             kmod-static-nodes.service systemd-udevd.service systemd-udev-trigger.service \
             systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
             systemd-tmpfiles-clean.timer systemd-firstboot.service \
             systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-initctl.socket; do
        ln -s /dev/null "$r/etc/systemd/system/$n"
    done
    : > "$r/etc/fstab"
    echo box > "$r/etc/hostname"
    rm -f "$r/etc/machine-id"; tr -d - < /proc/sys/kernel/random/uuid > "$r/etc/machine-id"
    rm -rf "$r/var/log/journal"
    mkdir -p "$r/etc/tmpfiles.d"; ln -sf /dev/null "$r/etc/tmpfiles.d/tmp.conf"   # would empty /tmp
    printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nAudit=no\nReadKMsg=no\nForwardToSyslog=no\nForwardToWall=no\nRateLimitIntervalSec=0\n' \
        > "$r/etc/systemd/journald.conf.d/box.conf"

    while IFS= read -r spec; do
        [ -n "$spec" ] || continue
        src=${spec%%$'\t'*}; dst=${spec#*$'\t'}
        mkdir -p "$r$(dirname "$dst")"
        cp -a --no-preserve=ownership "$src" "$r$dst"
    done <<< "$BOX_COPIES"

    cd "$r"
    pivot_root . .
    umount -l .
    cd /
    mount --make-rshared /
    local sd=/usr/lib/systemd/systemd; [ -x $sd ] || sd=/lib/systemd/systemd
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        container=sdbox LANG=C.UTF-8 \
        setpriv --bounding-set="$DROP" --inh-caps=-all \
        $sd --unit=multi-user.target --show-status=no </dev/null >/dev/null 2>&1
}

# ---------------------------------------------------------------- stage 1
# Host PID namespace, private mount namespace.
PID1= UNSHARE= CMD= CG=
box_alive() { # PID1 is still the child of our own unshare
    [ -n "$PID1" ] && [ -n "$UNSHARE" ] &&
    [ "$(awk '/^PPid:/{print $2}' "/proc/$PID1/status" 2>/dev/null)" = "$UNSHARE" ]
}
box_is_systemd() { # ... and past the exec, so /proc/$PID1/root is the box's root
    case $(readlink "/proc/$PID1/exe") in */systemd) ;; *) return 1 ;; esac
}
cleanup() {
    local rc=$? i
    trap '' INT TERM HUP; set +e
    # What the command left running is no child of the box's PID 1, which would
    # wait 10 s for a SIGCHLD that never comes: end it here, and send that SIGCHLD.
    [ -e "$CG/sdbox-cmd/cgroup.kill" ] && echo 1 > "$CG/sdbox-cmd/cgroup.kill"
    [ -n "$CMD" ] && wait "$CMD" 2>/dev/null
    if box_alive && box_is_systemd; then
        kill -s RTMIN+4 "$PID1"                 # = systemctl poweroff
        for ((i = 0; i < 100; i++)); do
            box_alive || break; [ $i -lt 5 ] || kill -s CHLD "$PID1" 2>/dev/null; sleep 0.1
        done
        box_alive && echo "systemd-box: no clean shutdown in 10 s, killing the box" >&2
    fi
    [ -n "$UNSHARE" ] && kill -KILL "$UNSHARE" 2>/dev/null   # takes PID 1 with it (--kill-child)
    [ -n "$UNSHARE" ] && wait "$UNSHARE" 2>/dev/null
    if [ -n "$CG" ] && [ -d "$CG" ]; then       # the box's cgroups are empty now
        for ((i = 0; i < 50; i++)); do
            find "$CG" -depth -type d -exec rmdir {} + 2>/dev/null
            [ -d "$CG" ] || break; sleep 0.1
        done
        [ -d "$CG" ] && echo "systemd-box: cgroup $CG could not be removed" >&2
    fi
    cd /; umount -R -l "$BOX_W"; rmdir "$BOX_W"
    exit "$rc"
}
enter() { # run in the box, as root, in a cgroup of the box's tree
    # --no-fork and an sh that waits: nsenter's own waiting copies a stop of its
    # child onto itself, and systemd-shutdown stops every process for a moment;
    # nsenter would then sleep for good and the PID namespace could never end.
    echo "$BASHPID" > "$CG/sdbox-cmd/cgroup.procs"
    exec setpriv --bounding-set="$DROP" --inh-caps=-all \
        nsenter --target "$PID1" --mount --uts --ipc --net --pid --cgroup --root --wd --no-fork \
        sh -c '"$@"; exit $?' sdbox-wait env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 TERM="${TERM:-dumb}" SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}
stage1() {
    local deadline i rc=0 state
    deadline=$((SECONDS + BOX_TIMEOUT))
    trap cleanup EXIT; trap 'exit 130' INT; trap 'exit 143' TERM HUP
    mount -t tmpfs -o mode=755 sdbox "$BOX_W"
    mkdir "$BOX_W"/{upper,work,root,cg}
    mount -t cgroup2 cgroup2 "$BOX_W/cg"
    for i in /tmp/sdbox.* "$BOX_W"/cg/sdbox.*; do           # left by a killed run
        [ -d "/proc/$(cut -d. -f2 <<< "${i##*/}")" ] || find "$i" -xdev -depth -type d -exec rmdir {} + 2>/dev/null || :
    done
    CG=$BOX_W/cg/${BOX_W##*/}
    mkdir "$CG" "$CG/sdbox-cmd"

    # The outer unshare makes the PID namespace (its child is PID 1); that child
    # moves itself into the box's cgroup and only then takes the other namespaces,
    # so the cgroup namespace's root is $CG and nobody else sits in $CG (a process
    # there would keep systemd from enabling controllers below it).
    setpriv --pdeathsig KILL unshare --fork --kill-child --pid -- \
        bash -c 'echo 0 > "$1/cgroup.procs" && exec unshare --mount --uts --ipc --net --cgroup \
                     --propagation private -- bash "$2" --stage2' sdbox "$CG" "$ME" </dev/null &
    UNSHARE=$!
    for ((i = 0; i < 100; i++)); do [ -s "$BOX_W/pid1" ] && break; sleep 0.02; done
    PID1=$(cat "$BOX_W/pid1" 2>/dev/null) || die 125 "stage 2 did not start"
    until box_is_systemd && [ -S "/proc/$PID1/root/run/systemd/private" ]; do
        box_alive || die 125 "PID 1 of the box ended during boot"
        [ $SECONDS -lt $deadline ] || die 125 "no systemd within $BOX_TIMEOUT s"
        sleep 0.02
    done
    state=$( (enter timeout $((deadline - SECONDS)) systemctl is-system-running --wait) ) || :
    case $state in
    running|degraded) ;;
    *) die 125 "box did not come up: ${state:-no answer}" ;;
    esac
    [ $state = running ] || (enter systemctl --failed --no-legend --plain) >&2

    i=$((deadline - SECONDS)); [ $i -gt 0 ] || i=1
    ( enter timeout --foreground -k 2 $i "$@" ) <&0 & CMD=$!
    wait $CMD || rc=$?
    CMD=
    exit $rc
}

case ${1:-} in
--stage1) shift; stage1 "$@" ;;
--stage2) stage2 ;;
esac

BOX_TIMEOUT=60 BOX_COPIES=
while [ $# -gt 0 ]; do
    case $1 in
    -c|--copy)  BOX_COPIES+="$(realpath "${2%%:*}")"$'\t'"${2#*:}"$'\n'; shift 2 ;;
    -t|--timeout) BOX_TIMEOUT=$2; shift 2 ;;
    -h|--help)  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$ME"; exit 0 ;;
    --) shift; break ;;
    -*) die 2 "unknown option $1" ;;
    *)  break ;;
    esac
done
[ $# -gt 0 ] || die 2 "no command; see --help"
[ "$(id -u)" = 0 ] || die 77 "needs root"
grep -qw cgroup2 /proc/filesystems || die 77 "kernel without cgroup v2"
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || die 77 "kernel without overlayfs"
for p in unshare nsenter setpriv pivot_root; do command -v $p >/dev/null || die 77 "$p not found"; done
[ -x /usr/lib/systemd/systemd ] || [ -x /lib/systemd/systemd ] || die 77 "systemd is not installed"
BOX_W=$(mktemp -d /tmp/sdbox.$$.XXXXXX)    # $$ stays the pid of stage 1: exec all the way
export BOX_W BOX_TIMEOUT BOX_COPIES
exec unshare --mount --propagation private bash "$ME" --stage1 "$@"
