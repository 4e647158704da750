# A stop takes as long as the drain, whatever the manager's own limit is.
override echod.service <<'CONF'
[Service]
Environment=ECHOD_DRAIN_TIMEOUT=3s
TimeoutStopSec=1s
CONF
systemctl enable --now echod.socket
# One that does not read its echo, until that fills what there is to fill.
exec {stuck}<>/dev/tcp/127.0.0.1/7
timeout 2 cat /dev/zero >&"$stuck" || :
start=$(date +%s%N)
systemctl stop echod.service echod.socket
[ $(($(date +%s%N) - start)) -ge 3000000000 ]
in_the_journal echod.service 'drain timeout of 3s is over: connections=1'
in_the_journal echod.service 'stopped: .* aborted=1'
! in_the_journal echod.service 'Killing process' || fail "it was killed"
# That is a stop, not a failure.
[ "$(property echod.service ExecMainStatus)" = 8 ]
[ "$(property echod.service Result)" = success ]
[ "$(property echod.service ActiveState)" = inactive ]
