# What the scripts share. Each runs as root in a box of its own, with echod and its units installed.
set -euo pipefail

# Shows what the services have said when a script fails: at which line, bash says.
trap 'echo "failed: $0, line $LINENO: $BASH_COMMAND" >&2; journalctl -q -u "e*" --no-pager | tail -30 >&2' ERR
set -E

fail() {
    echo "$*"
    return 1
}

# Waits until a command succeeds, and fails if it doesn't in 20 s.
eventually() {
    local deadline=$((SECONDS + 20))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $*"
        read -rt 0.02 <> <(:) || :
    done
}

# Changes settings of a unit, from standard input.
override() {
    mkdir -p "/run/systemd/system/$1.d"
    cat > "/run/systemd/system/$1.d/test.conf"
    systemctl daemon-reload
}

property() {
    systemctl show -P "$2" "$1"
}

# Opens a connection to port 7 that stays open, as the descriptor that variable $1 names, and sees it
# echo.
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

# Whether what unit $1 has logged matches $2; more arguments are options.
in_the_journal() {
    journalctl -q -u "$1" --no-pager -g "${@:2}" > /dev/null
}
