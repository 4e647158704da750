# A stop takes as long as the drain, even if the manager's own limit is shorter.
override echod.service <<'CONF'
[Service]
Environment=ECHOD_DRAIN_TIMEOUT=3s
TimeoutStopSec=1s
CONF
systemctl enable --now echod.socket
# This client does not read its echo, and sends until all buffers are full.
exec {stuck}<>/dev/tcp/127.0.0.1/7
timeout 2 cat /dev/zero >&"$stuck" || :
start=$(date +%s%N)
systemctl stop echod.service echod.socket
[ $(($(date +%s%N) - start)) -ge 3000000000 ]
in_the_journal echod.service 'drain timeout of 3s is over: connections=1'
in_the_journal echod.service 'stopped: .* aborted=1'
! in_the_journal echod.service 'Killing process' || fail "it was killed"
# The manager counts this as a stop, and not as a failure.
[ "$(property echod.service ExecMainStatus)" = 8 ]
[ "$(property echod.service Result)" = success ]
[ "$(property echod.service ActiveState)" = inactive ]
