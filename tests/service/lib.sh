# Shared by the scripts. Each script runs as root in a box of its own, with echod and its units installed.
set -euo pipefail

# If a script fails, print the line and the log of the services.
trap 'echo "failed: $0, line $LINENO: $BASH_COMMAND" >&2; journalctl -q -u "e*" --no-pager | tail -30 >&2' ERR
set -E

fail() {
    echo "$*"
    return 1
}

# Waits until a command succeeds, and fails after 20 s.
eventually() {
    local deadline=$((SECONDS + 20))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $*"
        read -rt 0.02 <> <(:) || :
    done
}

# Changes settings of unit $1, from standard input.
override() {
    mkdir -p "/run/systemd/system/$1.d"
    cat > "/run/systemd/system/$1.d/test.conf"
    systemctl daemon-reload
}

property() {
    systemctl show -P "$2" "$1"
}

# Opens a connection to port 7, stores its descriptor in the variable $1, and checks that it echoes.
connect() {
    exec {fd}<>/dev/tcp/127.0.0.1/7
    echo hello >&"$fd"
    read -r -t 20 line <&"$fd"
    [ "$line" = hello ]
    declare -g "$1=$fd"
}

echoes() {
    echod probe "$1" --timeout 20s > /dev/null
}

# Returns whether the log of unit $1 has a line that matches $2. More arguments are options of journalctl.
in_the_journal() {
    journalctl -q -u "$1" --no-pager -g "${@:2}" > /dev/null
}
