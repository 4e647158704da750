override echod.service <<'CONF'
[Service]
SystemCallFilter=~splice
CONF
systemctl enable --now echod.socket

# The stream is so long that the daemon would splice it.
head -c 30000000 /dev/urandom > /run/sent
exec {stream}<> /dev/tcp/127.0.0.1/7
cat /run/sent >&"$stream" &
head -c 30000000 <&"$stream" | cmp - /run/sent
exec {stream}>&-
wait
