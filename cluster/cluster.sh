#!/usr/bin/env bash
# The test cluster: real servers for the tests, on this machine, from package registries alone.
set -euo pipefail
cd "$(dirname "$0")"

# In the order in which they come up; a node needs the registry for every image.
parts=(minio registry docker kubernetes)
usage() {
    cat <<'END'
usage: ./dev cluster COMMAND

  up [PART…]         bring up these parts, or all
  down [PART…]       end them, or all and the network
  status             what runs, since when, where, with how much memory
  env                lines for a shell: addresses and keys of what is up
  check [PART…]      use each part once
  pid DAEMON         the process id of one of the daemons that `status` names
  kubectl, docker    these clients, with our servers
  clean              down, and delete all but the built programs and images
END
    echo "parts: ${parts[*]}"
}

source ./common.sh
source ./network.sh
source ./images.sh
for part in "${parts[@]}"; do source "./$part.sh"; done

# is_up PART: all of its daemons run.
is_up() {
    local name
    for name in $("$1_daemons"); do alive "$name" || return 1; done
}

up() {
    local part
    if ! command -v go >/dev/null; then
        say "Go is needed (docs/test-cluster.md)"
        return 1
    fi
    # What builds that were killed left; the lock says that none is under way.
    unmount "$archives"
    rm -rf "$bin"/.new.* "$archives"/.new.*
    timed network network_up
    for part in "$@"; do
        timed "$part" "${part}_up"
    done
}

# down PART…: in the opposite order.
down() {
    local index
    for ((index = $#; index > 0; index--)); do
        timed "${!index} down" "${!index}_down"
    done
}

# Nothing of ours is left on the machine but files.
all_down() {
    down "${parts[@]}"
    network_down
    remove_cgroups ''
}

status() {
    local part name pid up total
    for part in "${parts[@]}"; do
        up=0 total=0
        for name in $("${part}_daemons"); do
            total=$((total + 1))
            if alive "$name"; then up=$((up + 1)); fi
        done
        case $up in
        0) printf '%-12s down\n' "$part" && continue ;;
        "$total") printf '%-12s up      %s\n' "$part" "$("${part}_where")" ;;
        *) printf '%-12s broken  %d of %d daemons run\n' "$part" "$up" "$total" ;;
        esac
        for name in $("${part}_daemons"); do
            if pid=$(pid_of "$name") && alive "$name"; then
                printf '    %-26s pid %-8s since %-12s %5d MB\n' "$name" "$pid" "$(ps -o etime= -p "$pid" | tr -d ' ')" \
                    $(($(memory_of "$name") / 1024))
            else
                printf '    %-26s down\n' "$name"
            fi
        done
    done
}

# The resident memory, in KB, of a daemon and its children.
memory_of() {
    paste -sd, "$hierarchy/buildit/daemons/$1/cgroup.procs" | xargs -r ps -o rss= -p | awk '{ sum += $1 } END { print sum + 0 }'
}

command=${1:-help}
shift || true
wanted=" $* "
(($#)) || wanted=" ${parts[*]} "
[[ $command != up || $wanted != *" kubernetes "* ]] || wanted+="registry "
chosen=()
for part in "${parts[@]}"; do [[ $wanted != *" $part "* ]] || chosen+=("$part"); done
if [[ $command == @(up|down|check) ]]; then
    for part in "$@"; do
        if [[ " ${parts[*]} " != *" $part "* ]]; then
            echo "there is no part $part; parts: ${parts[*]}" >&2
            exit 2
        fi
    done
fi
if [[ $command == @(up|down|clean) ]]; then
    if ((EUID != 0)); then
        echo "bridges, mounts and cgroups need root" >&2
        exit 1
    fi
    mkdir -p "$bin" "$archives" "$data" "$run" "$logs"
    exec 9>"$base/lock"
    flock --nonblock 9 || { say "waiting for another ./dev cluster to end"; flock 9; }
fi
[[ $command != @(up|down|clean|check) ]] || trap '(($? == 0)) || say "FAILED; logs are in $logs"' EXIT
case $command in
up) timed "all" up "${chosen[@]}" ;;
down) if (($#)); then down "${chosen[@]}"; else all_down; fi ;;
clean)
    all_down
    rm -rf "$data"
    ;;
kubectl) kubectl "$@" ;;
docker) docker_cli "$@" ;;
status) status ;;
env)
    {
        echo "BUILDIT_TEST_HOST=$host"
        echo "BUILDIT_TEST_DAEMONS=$run"
        for part in "${parts[@]}"; do if is_up "$part"; then "${part}_env"; fi; done
    } | sed 's/^/export /'
    ;;
check) for part in "${chosen[@]}"; do timed "check $part" "${part}_check"; done ;;
pid)
    alive "${1:?the name of a daemon}" || { echo "$1 does not run" >&2; exit 1; }
    pid_of "$1"
    ;;
help | -h | --help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
