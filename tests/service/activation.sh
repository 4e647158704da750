systemctl enable --now echod.socket
[ "$(property echod.service ActiveState)" = inactive ]

for addr in 127.0.0.1:7 '[::1]:7'; do
    echoes "$addr"
    [ "$(property echod.service ActiveState)" = active ]
    pid=$(property echod.service MainPID)
    echo hello | nc -N "${addr%:7}" 7 2> /dev/null || echo hello | nc -N ::1 7
    [ "$(property echod.service MainPID)" = "$pid" ] || fail "it was started twice"
done

# No privilege at all, and none to be had.
grep -q '^NoNewPrivs:.1$' "/proc/$pid/status"
[ "$(grep -c '^Cap[A-Z][a-z]*:.0000000000000000$' "/proc/$pid/status")" = 5 ]
[ "$(stat -c %u "/proc/$pid")" != 0 ]
