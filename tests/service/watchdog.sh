override echod.service <<'CONF'
[Service]
Environment=ECHOD_MAX_CONNECTIONS=1
WatchdogSec=4s
TimeoutAbortSec=2s
CONF
systemctl enable --now echod.socket

# A daemon whose accept loop runs is not killed, idle or at its limit.
connect inside
pid=$(property echod.service MainPID)
fed() {
    [ "$(property echod.service WatchdogTimestampMonotonic)" != "$last" ]
}
for beat in {1..3}; do
    last=$(property echod.service WatchdogTimestampMonotonic)
    eventually fed
done
[ "$(property echod.service MainPID)" = "$pid" ]
exec {inside}>&-

# A daemon whose accept loop hangs is killed and restarted. Here a tracer stops only the thread of the loop,
# so that the thread that feeds the watchdog goes on. (101 is ptrace(2) on x86_64.)
perl -e '
    # Adding 0 makes a number of the argument. Otherwise syscall would pass a pointer to a string.
    my ($attach, $pid) = (16, shift() + 0);
    syscall(101, $attach, $pid, 0, 0) == 0 or die "ptrace: $!";
    $| = 1;
    print "stopped\n";
    # The tracer runs until it is killed, or until the process that it traces has ended.
    waitpid($pid, 0x40000000) while -e "/proc/$pid";
' "$pid" > /run/tracer &
tracer=$!
eventually grep -q stopped /run/tracer
restarted() {
    [ "$(property echod.service NRestarts)" -ge 1 ]
}
eventually restarted
in_the_journal echod.service 'Watchdog timeout'
eventually echoes 127.0.0.1:7
kill $tracer 2> /dev/null || :
