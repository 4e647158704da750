socket() {
    printf '[Socket]\nService=echod.service\n%s\n' "$2" > "/run/systemd/system/$1.socket"
}

# The daemon tells sockets apart by their names. One echo socket has the default name.
socket other 'ListenStream=127.0.0.1:1007'
systemctl daemon-reload
systemctl start echod.socket other.socket
echoes 127.0.0.1:7
echoes 127.0.0.1:1007
systemctl stop echod.socket other.socket echod.service

# The daemon names a socket that it can't serve, with the reason.
refuses() {
    socket "$1" "$2"
    systemctl daemon-reload
    systemctl start "$1.socket"
    ! systemctl start echod.service 2> /dev/null || fail "it serves $2"
    in_the_journal echod.service "$3"
    systemctl stop "$1.socket" echod.service echod.socket
    systemctl reset-failed
    rm "/run/systemd/system/$1.socket"
}
refuses datagram $'ListenDatagram=127.0.0.1:1007\nFileDescriptorName=syslog' \
    'descriptor \d \("syslog"\) is a UDP socket; expected a listening TCP socket'
refuses unknown $'ListenStream=127.0.0.1:1007\nFileDescriptorName=gopher' \
    'descriptor \d \("gopher"\) is not named after a service; set FileDescriptorName= to one of: echo, daytime, '
refuses local $'ListenStream=/run/local.sock' \
    'descriptor \d \("local.socket"\) is a listening Unix socket; expected a listening TCP socket'

# Accept=yes starts a process for each connection. The process ends with the connection.
cat > /run/systemd/system/each.socket <<'CONF'
[Socket]
ListenStream=127.0.0.1:1007
Accept=yes
CONF
cat > /run/systemd/system/each@.service <<'CONF'
[Service]
ExecStart=/usr/bin/echod -v
StandardInput=socket
StandardError=inherit
CONF
systemctl daemon-reload
systemctl start each.socket
# The daemon's output and log must not get into the connection.
for _ in {1..20}; do
    echoes 127.0.0.1:1007
done
none_left() {
    [ -z "$(systemctl list-units --plain --no-legend 'each@*')" ]
}
eventually none_left

# A client that resets the connection leaves nothing behind: no process, and no failed unit.
perl -MSocket -e '
    for (1 .. 40) {
        socket(my $client, AF_INET, SOCK_STREAM, 0) or die $!;
        connect($client, pack_sockaddr_in(1007, INADDR_LOOPBACK)) or die $!;
        setsockopt($client, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)) or die $!;
        close($client);
    }'
echoes 127.0.0.1:1007
eventually none_left

# If the connection is not on standard input, the daemon rejects it as a socket that does not listen.
sed -i '/^Standard/d' /run/systemd/system/each@.service
systemctl daemon-reload
! echoes 127.0.0.1:1007 2> /dev/null
eventually in_the_journal 'each@*' 'is a TCP connection; expected a listening TCP socket; with Accept=yes, set StandardInput=socket'
