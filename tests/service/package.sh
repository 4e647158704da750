# The life of the package on a machine: /root/old.deb, and /root/new.deb, which upgrades it.

# In a container's image it forbids to start and stop services.
rm -f /usr/sbin/policy-rc.d

inactive() {
    for unit in "$@"; do
        [ "$(systemctl is-active "$unit" || :)" = inactive ]
    done
}
enabled_is() {
    [ "$(systemctl is-enabled "$1" || :)" = "$2" ]
}
closed() {
    ! nc -z 127.0.0.1 7
}
traces() {
    find /etc /run /usr /var/lib -xdev -iname '*echod*' ! -path '/var/lib/dpkg/*' | sort
}

# Installing it neither enables nor starts anything.
before=$(traces)
dpkg --install /root/old.deb
inactive echod.service echod.socket echod-standalone.service
enabled_is echod.socket disabled
enabled_is echod-standalone.service disabled
closed

# Once it is asked for, the first connection starts it.
systemctl enable --now echod.socket
inactive echod.service
echoes 127.0.0.1:7
systemctl is-active echod.service echod.socket

# An upgrade replaces the process, not its socket: nobody is turned away.
echo ECHOD_VERBOSE=1 >> /etc/default/echod
pid=$(property echod.service MainPID)
since=$(property echod.socket ActiveEnterTimestampMonotonic)
: > /run/upgrading
(
    clients=0
    while [ -e /run/upgrading ]; do
        echod probe 127.0.0.1:7 --timeout 20s > /dev/null
        clients=$((clients + 1))
    done
    echo "$clients clients meanwhile"
    [ $clients -gt 0 ]
) &
dpkg --install /root/new.deb
rm /run/upgrading
wait $!
[ "$(property echod.service MainPID)" != "$pid" ]
[ "$(readlink "/proc/$(property echod.service MainPID)/exe")" = /usr/bin/echod ]
[ "$(property echod.socket ActiveEnterTimestampMonotonic)" = "$since" ]
[ "$(tail -n 1 /etc/default/echod)" = ECHOD_VERBOSE=1 ]

# What does not run is not started.
systemctl stop echod.service
dpkg --install /root/old.deb
inactive echod.service echod-standalone.service
systemctl is-active echod.socket

# Alone, it is restarted by an upgrade, too.
systemctl start echod-standalone.service
pid=$(property echod-standalone.service MainPID)
dpkg --install /root/new.deb
echoes 127.0.0.1:7
[ "$(property echod-standalone.service MainPID)" != "$pid" ]
inactive echod.service echod.socket
systemctl start echod.socket
echoes 127.0.0.1:7

# Removing it stops everything, and keeps what was configured.
dpkg --remove echod
inactive echod.service echod.socket echod-standalone.service
closed
[ "$(tail -n 1 /etc/default/echod)" = ECHOD_VERBOSE=1 ]

# Installed again it is enabled, as it was.
dpkg --install /root/new.deb
enabled_is echod.socket enabled
systemctl start echod.socket
echoes 127.0.0.1:7

# Purging it leaves nothing.
dpkg --purge echod
closed
[ "$(traces)" = "$before" ]
[ -z "$(systemctl list-units --all --no-legend 'echod*')" ]
