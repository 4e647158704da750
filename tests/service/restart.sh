systemctl enable --now echod.socket

# At a restart, a connected client gets what is due, then end of file.
connect before
echo "due" >&"$before"

count=/run/count
(
    for i in {1..500}; do
        echoes 127.0.0.1:7
        echo "$i" > $count.new
        mv $count.new $count
    done
) &
clients=$!
reached() {
    [ "$(cat $count 2> /dev/null || echo 0)" -ge "$1" ]
}
for restart in {1..5}; do
    eventually reached $((restart * 80))
    systemctl restart echod.service
    [ $restart != 1 ] || [ "$(timeout 20 cat <&"$before")" = due ]
done
wait $clients
[ "$(cat $count)" = 500 ]
[ "$(journalctl -u echod --no-pager -g 'stopped: .* aborted=0' | wc -l)" = 5 ]
[ "$(property echod.service NRestarts)" = 0 ]
