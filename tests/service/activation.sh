systemctl enable --now echod.socket
[ "$(property echod.service ActiveState)" = inactive ]

for addr in 127.0.0.1:7 '[::1]:7'; do
    echoes "$addr"
    [ "$(property echod.service ActiveState)" = active ]
    pid=$(property echod.service MainPID)
    echoes "$addr"
    [ "$(property echod.service MainPID)" = "$pid" ] || fail "it was started twice"
done

# The daemon has no privilege, and can't get any.
grep -q '^NoNewPrivs:.1$' "/proc/$pid/status"
[ "$(grep -c '^Cap[A-Z][a-z]*:.0000000000000000$' "/proc/$pid/status")" = 5 ]
[ "$(stat -c %u "/proc/$pid")" != 0 ]
