# Runs a program that tries to escape, in place of the daemon, in the sandbox of the unit.
override echod.service <<'CONF'
[Service]
Type=exec
WatchdogSec=0
ExecStart=
ExecStart=/usr/bin/perl /usr/share/tests/probe.pl
ExecPaths=/usr/bin/perl
CONF
systemctl enable --now echod.socket
report=$(timeout 20 cat < /dev/tcp/127.0.0.1/7)
expected='write in /: no
write in /etc: no
write in /tmp: no
write in /var/tmp: no
write in /run: no
write in /dev/shm: no
write in /usr/bin: no
write in /proc/self: no
socket bluetooth: no
socket inet: no
socket inet6: no
socket netlink: no
socket packet: no
socket vsock: no
socket unix: yes
run a shell: no
bpf: no
mount: no
ptrace: no
setuid: no
unshare: no
see other processes: no'
[ "$report" = "$expected" ] || fail "$(diff <(echo "$expected") <(echo "$report"))"
