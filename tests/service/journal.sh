override echod.service <<'CONF'
[Service]
Environment=ECHOD_VERBOSE=1 ECHOD_MAX_CONNECTIONS=2
CONF
systemctl enable --now echod.socket
connect first
connect second
# One that waits in the backlog.
exec {third}<>/dev/tcp/127.0.0.1/7
eventually in_the_journal echod.service 'limit of 2 connections reached'
exec {first}>&- {second}>&- {third}>&-

# Warnings, and only those.
[ "$(journalctl -q -u echod -p warning --no-pager -o cat)" = "limit of 2 connections reached; new ones wait in the backlog; the most: 2 from 127.0.0.1" ]
# What happened to whom.
eventually in_the_journal echod.service 'peer=127.0.0.1:\d+ local=127.0.0.1:7 bytes_in=6 bytes_out=6 duration=[\d.]+ reason=eof'
! in_the_journal echod.service reason= -p info || fail "a connection is no news"
# The journal has a clock and a level of its own.
eventually in_the_journal echod.service listening
[ "$(journalctl -q -u echod --no-pager -o cat -g listening)" = "listening on [::]:7" ]

# As JSON it is one field the more to be taken apart.
override echod.service <<'CONF'
[Service]
Environment=ECHOD_LOG_FORMAT=json
CONF
systemctl restart echod.service
eventually in_the_journal echod.service '^{"address":"\[::\]:7","level":"INFO","message":"listening on \[::\]:7"'

# Elsewhere a line has no such prefix, even with the variable inherited.
JOURNAL_STREAM=1:2 echod --listen 127.0.0.1:0 2> /run/echod.log &
elsewhere=$!
eventually grep -q '^\[.*INFO \] listening' /run/echod.log
kill $elsewhere
