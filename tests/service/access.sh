# Uses the drop-in that systemd/access.md shows.
page=/usr/share/doc/echod/access.md
drop_in() {
    sed -n '/^```ini$/,/^```$/ { /^```/d; p }' $page
}
[ "$(drop_in | head -n 1)" = '[Socket]' ]
inside='192.0.2.7 2001:db8::7 127.0.0.1 ::1'
outside='198.51.100.9 2001:db9::9'
for addr in 192.0.2.7/32 198.51.100.9/32; do
    ip address add $addr dev lo
done
for addr in 2001:db8::7/128 2001:db9::9/128; do
    ip address add $addr dev lo nodad
done

# Prints what a client with this source address receives within a time.
echo_from() {
    local server=127.0.0.1
    [[ $1 != *:* ]] || server=::1
    echo hello | timeout "$2" nc -N -s "$1" $server 7 || :
}
served() {
    for addr in "$@"; do
        [ "$(echo_from "$addr" 20)" = hello ] || fail "$addr is not served"
    done
}
# A client that is shut out gets no answer at all.
shut_out() {
    for addr in "$@"; do
        [ -z "$(echo_from "$addr" 1)" ] || fail "$addr is served"
    done
}

# The drop-in takes effect at the reload, also for connected clients.
systemctl start echod.socket
served $inside $outside
exec {client}<>/dev/tcp/198.51.100.9/7
echo before >&$client
read -r -t 20 line <&$client
[ "$line" = before ]
mkdir -p /etc/systemd/system/echod.socket.d
drop_in > /etc/systemd/system/echod.socket.d/access.conf
said=$(systemd-analyze verify echod.socket 2>&1 | grep access.conf || :)
[ -z "$said" ] || fail "$said"
pid=$(property echod.service MainPID)
systemctl daemon-reload
served $inside
shut_out $outside
echo during >&$client
! read -r -t 1 line <&$client || fail "a connection goes on"
[ "$(property echod.service MainPID)" = "$pid" ]
systemctl restart echod.service
shut_out $outside
exec {client}>&-

# The drop-in has no effect on a socket that another unit makes.
mkdir -p /etc/systemd/system/echod.service.d
mv /etc/systemd/system/echod.socket.d/access.conf /etc/systemd/system/echod.service.d/
sed -i 's/\[Socket]/[Service]/' /etc/systemd/system/echod.service.d/access.conf
systemctl daemon-reload
systemctl restart echod.service
served $inside $outside

# Shut out one network until the next boot.
systemctl set-property --runtime echod.socket IPAddressDeny=198.51.100.0/24
served $inside 2001:db9::9
shut_out 198.51.100.9
systemctl stop echod.socket echod.service

# The standalone service makes the socket itself.
mkdir -p /etc/systemd/system/echod-standalone.service.d
mv /etc/systemd/system/echod.service.d/access.conf /etc/systemd/system/echod-standalone.service.d/
systemctl daemon-reload
systemctl start echod-standalone
served $inside
shut_out $outside
