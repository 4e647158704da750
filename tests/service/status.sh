override echod.service <<'CONF'
[Service]
Environment=ECHOD_MAX_CONNECTIONS=2 ECHOD_AT_LIMIT=reject
# The daemon updates its status twice in this time.
WatchdogSec=4s
CONF
systemctl enable --now echod.socket
status_is() {
    [ "$(property echod.service StatusText)" = "$1" ]
}
connect first
eventually status_is "connections: 1 now, 1 served, 0 rejected"
connect second
[ -z "$(nc -N 127.0.0.1 7 < /dev/null)" ]
eventually status_is "connections: 2 now, 2 served, 1 rejected"
exec {first}>&- {second}>&-
eventually status_is "connections: 0 now, 2 served, 1 rejected"
