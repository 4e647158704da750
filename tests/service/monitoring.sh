# As systemd/monitoring.md says, services of a daemon without network access get sockets of their own.
for service in metrics=127.0.0.1:9007 systat=127.0.0.1:1011; do
    cat > "/etc/systemd/system/echod-${service%%=*}.socket" <<CONF
[Socket]
ListenStream=${service#*=}
FileDescriptorName=${service%%=*}
Service=echod.service

[Install]
WantedBy=sockets.target
CONF
done
scraped() {
    local text
    text=$(printf 'GET /metrics HTTP/1.0\r\n\r\n' | timeout 20 nc 127.0.0.1 9007)
    grep -qxE "$1" <<< "$text"
}
listed() {
    local list
    list=$(timeout 20 nc 127.0.0.1 1011)
    grep -q "$1" <<< "$list"
}
systemctl start echod.socket
connect client
systemctl daemon-reload
systemctl stop echod.service && systemctl enable --now echod-metrics.socket echod-systat.socket
exec {client}>&-
connect client
scraped 'echod_connections\{service="echo",state="reactor"\} 1'
scraped 'echod_received_bytes_total\{service="echo"\} 6'
# The daemon reads these metrics of its process in /proc, of which it sees little in its sandbox.
for name in cpu_seconds_total resident_memory_bytes open_fds max_fds threads start_time_seconds; do
    scraped "process_$name [0-9.]+" || fail "no process_$name"
done
listed '^echo  *127.0.0.1:[0-9]*  127.0.0.1:7 .* reactor'
# The status does not count scrapes.
status_is() {
    [ "$(property echod.service StatusText)" = "$1" ]
}
eventually status_is 'connections: 1 now, 1 served, 0 rejected'
systemctl kill -s USR1 --kill-whom=main echod.service
eventually in_the_journal echod.service 'service=echo peer=127.0.0.1:\d+ local=127.0.0.1:7 .* state=reactor'
systemctl is-active echod.service
systemctl stop echod.service echod.socket echod-metrics.socket echod-systat.socket

# The standalone service binds these addresses itself.
echo ECHOD_SERVICE=metrics=127.0.0.1:9007,systat=127.0.0.1:1011 > /etc/default/echod
systemctl start echod-standalone
scraped 'echod_max_connections\{service="metrics"\} 64'
listed '^systat '
