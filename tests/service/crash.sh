systemctl enable --now echod.socket
echoes 127.0.0.1:7
ended() {
    [ "$(property echod.service MainPID)" != "$pid" ]
}
for signal in KILL ABRT ILL; do
    pid=$(property echod.service MainPID)
    kill -$signal "$pid"
    eventually ended
    # A client that connects now waits in the backlog.
    echod probe 127.0.0.1:7 --timeout 20s
done
[ "$(property echod.service NRestarts)" = 3 ]
