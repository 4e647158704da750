# The service is ready when every listener listens, so a client is served at once after the start.
override echod-standalone.service <<'CONF'
[Service]
Environment=ECHOD_LISTEN=:7,127.0.0.1:1007,[::1]:2007
CONF
systemctl start echod-standalone
for addr in 127.0.0.1:7 '[::1]:7' 127.0.0.1:1007 '[::1]:2007'; do
    echoes "$addr"
done
# The daemon has only the capability number 10, CAP_NET_BIND_SERVICE.
pid=$(property echod-standalone.service MainPID)
[ "$(grep -c '^Cap[A-Z][a-z]*:.0000000000000400$' "/proc/$pid/status")" = 5 ]
[ "$(stat -c %u "/proc/$pid")" != 0 ]
systemctl stop echod-standalone

# If one of the addresses is in use, the start soon fails and says why.
nc -lk 127.0.0.1 1007 > /dev/null &
nc=$!
eventually nc -z 127.0.0.1 1007
start=$SECONDS
! systemctl start echod-standalone 2> /dev/null || fail "it said that it was ready"
[ $((SECONDS - start)) -lt 10 ]
says_why() {
    local status
    status=$(systemctl status echod-standalone --no-pager || :)
    grep -q 'cannot bind 127.0.0.1:1007: Address already in use' <<< "$status"
}
eventually says_why
eventually in_the_journal echod-standalone.service "cannot bind 127.0.0.1:1007" -p err

# When the address is free again, the service starts without further action.
kill $nc
eventually echoes 127.0.0.1:1007

# The socket unit takes the port from the standalone service, and the other way round.
for unit in echod.socket echod-standalone.service echod.socket; do
    systemctl start $unit
    echoes 127.0.0.1:7
done
[ "$(systemctl is-active echod-standalone || :)" = inactive ]
