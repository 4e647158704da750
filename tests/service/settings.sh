# If a setting is wrong, the status and the journal say why. After the setting is corrected, the port works
# again without further action.
mkdir -p /etc/default
echo ECHOD_MAX_CONNECTIONS=lots > /etc/default/echod
systemctl enable --now echod.socket
echoes 127.0.0.1:7 &
client=$!
reason="invalid value 'lots' for 'ECHOD_MAX_CONNECTIONS': expected a number, 1 or more"
has_failed() {
    [ "$(property echod.service NRestarts)" -ge 1 ]
}
eventually has_failed
# Each start clears the status text, so wait for it.
is_told() {
    [ "$(property echod.service StatusText)" = "$reason" ]
}
eventually is_told
in_the_journal echod.service "^$reason\$" -p err
[ "$(property echod.socket ActiveState)" = active ]

echo ECHOD_MAX_CONNECTIONS=100 > /etc/default/echod
# The client has waited in the backlog.
wait $client

# The start fails for another reason.
override echod.service <<'CONF'
[Service]
ExecStart=
ExecStart=/usr/bin/no-such-program
CONF
systemctl stop echod.service
echoes 127.0.0.1:7 &
client=$!
eventually has_failed
rm /run/systemd/system/echod.service.d/test.conf
systemctl daemon-reload
wait $client

# The error is in the configured format.
printf '%s\n' ECHOD_LOG_FORMAT=json ECHOD_IDLE_TIMEOUT=soon > /etc/default/echod
! systemctl restart echod.service 2> /dev/null || fail "it started"
in_the_journal echod.service '^{"level":"ERROR","message":"invalid value .soon. for .ECHOD_IDLE_TIMEOUT.: .*}$' -p err
systemctl stop echod.service

# The daemon compares what its settings need with the limits of the unit, if the kernel has these limits in
# control groups of version 2.
if grep -q 'memory.*pids' /sys/fs/cgroup/cgroup.controllers; then
    printf '%s\n' ECHOD_MAX_CONNECTIONS=5000 ECHOD_SERVICE=chargen=127.0.0.1:19 > /etc/default/echod
    override echod-standalone.service <<'CONF'
[Service]
TasksMax=200
MemoryMax=100M
CONF
    systemctl start echod-standalone
    in_the_journal echod-standalone.service \
        '^ECHOD_MAX_CONNECTIONS 5000 does not fit under the limit of 184 threads, one for each connection of chargen' -p warning
    in_the_journal echod-standalone.service \
        '^10000 busy connections may take 689 MiB, and the memory limit is 100 MiB' -p warning
fi
