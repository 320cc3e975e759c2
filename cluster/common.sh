# Folders, addresses, and the life of a daemon. Sourced by cluster.sh; everything else here is built on it.

base=${XDG_CACHE_HOME:-$HOME/.cache}/buildit/cluster
# Programs, each named with a hash of what it was built from.
bin=$base/bin
# What a part keeps over `down`: objects, pushed images.
data=$base/data
# Configuration, keys, sockets and process ids of what runs now.
run=$base/run
logs=$base/logs

# The bridge that pods hang on. Its address is the host for pods, for containers and for the host itself,
# so that one address of a server is right for all of them.
bridge=buildit0
host=10.244.0.1
pod_range=10.244.0.0/16

# The hierarchy in which our processes are told from others. It has no limits; on cgroup v1 beside v2 that is
# the latter.
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    hierarchy=/sys/fs/cgroup
elif [[ -e /sys/fs/cgroup/unified/cgroup.procs ]]; then
    hierarchy=/sys/fs/cgroup/unified
else
    hierarchy=/sys/fs/cgroup/pids
fi

say() { printf '    %s\n' "$*" >&2; }

# timed WHAT COMMAND…: says how long it took.
timed() {
    local what=$1 begun=${EPOCHREALTIME/[.,]/} took
    shift
    "$@"
    took=$((${EPOCHREALTIME/[.,]/} - begun))
    say "$(printf '%s: %d.%d s' "$what" $((took / 1000000)) $((took / 100000 % 10)))"
}

# until_ready WHAT SECONDS COMMAND…: asks every 50 ms.
until_ready() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            say "$what is not ready in time; see $logs"
            return 1
        fi
        sleep 0.05
    done
}

# packages NAME…: Debian packages, installed when they are not.
packages() {
    local missing=() name
    for name in "$@"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    timed "installing ${missing[*]}" install_packages "${missing[@]}"
}

install_packages() {
    # The first install asks for the lists, since a bare machine has none.
    if [[ ! -e $base/apt-updated ]]; then
        apt-get update --quiet --quiet >"$logs/apt.log" 2>&1
        touch "$base/apt-updated"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >>"$logs/apt.log" 2>&1
}

# program NAME KEY COMMAND…: prints the path of a program; where it is not there, the command builds it to the
# path that it finds in $output. KEY says what it is built from.
program() {
    local name=$1 key path
    key=$(printf '%s\n' "$2" | sha256sum)
    path=$bin/$name-${key:0:12}
    shift 2
    if [[ ! -x $path ]]; then
        output=$(mktemp -d "$bin/.new.XXXXXX")/$name
        say "building $name (once); see $logs/build-$name.log"
        timed "building $name" build "$name" "$@"
        mv "$output" "$path"
        rmdir "$(dirname "$output")"
    fi
    printf '%s\n' "$path"
}

build() {
    local name=$1
    shift
    if ! output=$output "$@" >"$logs/build-$name.log" 2>&1; then
        tail -n 20 "$logs/build-$name.log" >&2
        return 1
    fi
}

# go_program NAME PACKAGE@VERSION
go_program() { program "$1" "$2 $(go env GOVERSION)" go_install "$2"; }
go_install() { GOBIN=$(dirname "$output") CGO_ENABLED=0 nice -n 5 go install -trimpath -ldflags '-s -w' "$1"; }

# daemon NAME COMMAND…: starts it where it does not run, in a cgroup and a session of its own.
daemon() {
    local name=$1 group memory=/sys/fs/cgroup/memory
    shift
    if alive "$name"; then return 0; fi
    group=$hierarchy/buildit/daemons/$name
    mkdir -p "$group"
    # A shell's memory cgroup may end with the shell.
    [[ ! -d $memory ]] || mkdir -p "$memory/buildit/daemons/$name"
    # The process names itself before it becomes the daemon: no kill in between leaves one that nobody knows.
    # The lock is not inherited.
    GROUP=$group MEMORY=$memory/buildit/daemons/$name PIDFILE=$run/$name.pid setsid --fork bash -c '
        echo $$ >"$GROUP/cgroup.procs"
        [[ ! -d $MEMORY ]] || echo $$ >"$MEMORY/cgroup.procs"
        echo $$ >"$PIDFILE"
        unset GROUP MEMORY PIDFILE
        exec "$@"' daemon "$@" </dev/null >>"$logs/$name.log" 2>&1 9>&-
}

pid_of() { cat "$run/$1.pid" 2>/dev/null; }

# An id alone may be another's by now; in our cgroup it is ours.
alive() {
    local pid
    pid=$(pid_of "$1") && grep -qx "$pid" "$hierarchy/buildit/daemons/$1/cgroup.procs" 2>/dev/null
}

# end NAME: TERM, and KILL to what is still there 3 s later, children included.
end() {
    local deadline=$((SECONDS + 3))
    if alive "$1"; then kill "$(pid_of "$1")" 2>/dev/null || true; fi
    while alive "$1" && ((SECONDS < deadline)); do sleep 0.05; done
    end_at_once "$1"
}

# end_at_once NAME…: KILL, children included.
end_at_once() {
    local name
    for name in "$@"; do
        empty_cgroup "$hierarchy/buildit/daemons/$name"
        remove_cgroups "daemons/$name"
        rm -f "$run/$name.pid"
    done
}

# empty_cgroup FOLDER: no process is left in it or below.
empty_cgroup() {
    local round pids
    for ((round = 0; round < 100; round++)); do
        pids=$(find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0 || true)
        [[ $pids ]] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.02
    done
    say "processes in $1 do not end: $pids"
    return 1
}

# remove_cgroups NAME: of all hierarchies.
remove_cgroups() {
    local folder
    for folder in /sys/fs/cgroup/buildit/"$1" /sys/fs/cgroup/*/buildit/"$1"; do
        [[ ! -d $folder ]] || empty_cgroup "$folder"
        [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# rule TABLE CHAIN RULE…: inserts an iptables rule where it is not there; every one bears our name.
rule() {
    local table=$1 chain=$2
    shift 2
    iptables -w -t "$table" -C "$chain" "$@" -m comment --comment buildit 2>/dev/null ||
        iptables -w -t "$table" -I "$chain" "$@" -m comment --comment buildit
}

# unmount FOLDER: everything that is mounted there or below, the latest first.
unmount() {
    awk -v folder="$1" '$2 == folder || index($2, folder "/") == 1 { print $2 }' /proc/self/mounts | tac | xargs -r umount --lazy
}
