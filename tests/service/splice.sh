override echod.service <<'CONF'
[Service]
SystemCallFilter=~splice
CONF
systemctl enable --now echod.socket

# A stream, long enough for the daemon to want to splice it.
head -c 30000000 /dev/urandom > /run/sent
exec {stream}<> /dev/tcp/127.0.0.1/7
cat /run/sent >&"$stream" &
head -c 30000000 <&"$stream" | cmp - /run/sent
exec {stream}>&-
wait
