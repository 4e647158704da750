# Installs, upgrades and removes the package: /root/old.deb, and /root/new.deb, which upgrades it.

# In a container image, this file forbids starting and stopping services.
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

# Installing the package neither enables nor starts anything.
before=$(traces)
dpkg --install /root/old.deb
inactive echod.service echod.socket echod-standalone.service
enabled_is echod.socket disabled
enabled_is echod-standalone.service disabled
closed

# After the socket is enabled, the first connection starts the daemon.
systemctl enable --now echod.socket
inactive echod.service
echoes 127.0.0.1:7
systemctl is-active echod.service echod.socket

# An upgrade replaces the process but not its socket, so no client is refused.
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

# An upgrade does not start a daemon that is not running.
systemctl stop echod.service
dpkg --install /root/old.deb
inactive echod.service echod-standalone.service
systemctl is-active echod.socket

# An upgrade also restarts the standalone service.
systemctl start echod-standalone.service
pid=$(property echod-standalone.service MainPID)
dpkg --install /root/new.deb
echoes 127.0.0.1:7
[ "$(property echod-standalone.service MainPID)" != "$pid" ]
inactive echod.service echod.socket
systemctl start echod.socket
echoes 127.0.0.1:7

# Removing the package stops everything, and keeps the configuration.
dpkg --remove echod
inactive echod.service echod.socket echod-standalone.service
closed
[ "$(tail -n 1 /etc/default/echod)" = ECHOD_VERBOSE=1 ]

# Installed again, the socket is enabled as before.
dpkg --install /root/new.deb
enabled_is echod.socket enabled
systemctl start echod.socket
echoes 127.0.0.1:7

# Purging the package leaves nothing.
dpkg --purge echod
closed
[ "$(traces)" = "$before" ]
[ -z "$(systemctl list-units --all --no-legend 'echod*')" ]
