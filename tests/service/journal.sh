override echod.service <<'CONF'
[Service]
Environment=ECHOD_VERBOSE=1 ECHOD_MAX_CONNECTIONS=2
CONF
systemctl enable --now echod.socket
connect first
connect second
# This client waits in the backlog.
exec {third}<>/dev/tcp/127.0.0.1/7
eventually in_the_journal echod.service 'limit of 2 connections reached'
exec {first}>&- {second}>&- {third}>&-

# The priority `warning` selects the warnings and nothing else.
[ "$(journalctl -q -u echod -p warning --no-pager -o cat)" = "limit of 2 connections reached; new ones wait in the backlog; the most: 2 from 127.0.0.1" ]
# The journal has a line for each connection, with its peer and its reason.
eventually in_the_journal echod.service 'peer=127.0.0.1:\d+ local=127.0.0.1:7 bytes_in=6 bytes_out=6 duration=[\d.]+ reason=eof'
! in_the_journal echod.service reason= -p info || fail "a connection is no news"
# The line has no time and level of its own, because the journal has both.
eventually in_the_journal echod.service listening
[ "$(journalctl -q -u echod --no-pager -o cat -g listening)" = "listening on [::]:7" ]

# In JSON, the level is a field of the line.
override echod.service <<'CONF'
[Service]
Environment=ECHOD_LOG_FORMAT=json
CONF
systemctl restart echod.service
eventually in_the_journal echod.service '^{"address":"\[::\]:7","level":"INFO","message":"listening on \[::\]:7"'

# Outside of the journal, a line has its time and level, even if the variable is inherited.
JOURNAL_STREAM=1:2 echod --listen 127.0.0.1:0 2> /run/echod.log &
elsewhere=$!
eventually grep -q '^\[.*INFO \] listening' /run/echod.log
kill $elsewhere
