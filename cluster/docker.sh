# A Docker engine beside any other: its own folders, socket and bridge.

docker_root=$data/docker
docker_socket=$run/docker.sock
docker_bridge=buildit1
docker_range=172.30.99.0/24
docker_gateway=172.30.99.1
docker_chains="filter:DOCKER filter:DOCKER-USER filter:DOCKER-ISOLATION-STAGE-1 filter:DOCKER-ISOLATION-STAGE-2 nat:DOCKER"

docker_up() {
    packages curl
    # Another vendor's engine serves as well, and Debian's cannot be installed beside it.
    [[ -x /usr/bin/dockerd && -x /usr/bin/docker ]] || packages docker.io
    if ! alive dockerd; then
        docker_down
        # With these chains here there is another engine, whose rules `down` must leave alone.
        if iptables -w -S DOCKER >/dev/null 2>&1; then rm -f "$run/docker.alone"; else touch "$run/docker.alone"; fi
        iptables -w -S FORWARD | head -n 1 >"$run/docker.forward"
        # For its hardware address see `network_up`.
        ip link add "$docker_bridge" address 02:62:75:69:6c:01 type bridge
        ip address add "$docker_gateway/24" dev "$docker_bridge"
        ip link set "$docker_bridge" up
    fi
    daemon dockerd dockerd --data-root "$docker_root" --exec-root "$run/docker" --pidfile "$run/docker.pid" \
        --host "unix://$docker_socket" --bridge "$docker_bridge" --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs \
        --cgroup-parent /buildit/docker --insecure-registry "$host/16"
    until_ready dockerd 30 docker_cli version
    # The engine sets the chain's policy to DROP, and its rules know only its own containers.
    rule filter DOCKER-USER -i "$bridge" -j ACCEPT
    rule filter DOCKER-USER -o "$bridge" -j ACCEPT
    load_images
}

docker_cli() { /usr/bin/docker --host "unix://$docker_socket" "$@"; }
docker_daemons() { echo dockerd; }
docker_where() { echo "DOCKER_HOST=unix://$docker_socket"; }
docker_env() { echo "BUILDIT_TEST_DOCKER_HOST=unix://$docker_socket"; }

load_images() {
    local name
    make_images
    for name in "${images[@]}"; do
        if ! docker_cli image inspect "buildit.test/$name:$(image_hash "$name")" >/dev/null 2>&1; then
            timed "loading $name" load_image "$name"
        fi
    done
}

load_image() {
    docker_cli load --quiet --input "$(image_archive "$1")" >/dev/null
    docker_cli tag "$(image_name "$1")" "buildit.test/$1:$(image_hash "$1")"
}

docker_down() {
    local table chain policy
    # The engine would wait for its containers.
    remove_cgroups docker
    end dockerd
    remove_cgroups docker
    unmount "$run/docker"
    unmount "$docker_root"
    rm -rf "$run/docker" "$docker_socket" "$run/docker.pid"
    if ip link show "$docker_bridge" >/dev/null 2>&1; then ip link delete "$docker_bridge"; fi
    [[ -e $run/docker.alone ]] || return 0
    # The engine leaves its chains. First the jumps to them, then what is in them, then they themselves.
    for table in filter nat; do
        { iptables -w -t $table -S | grep -E -- "-j DOCKER|$docker_range|$docker_bridge" || true; } |
            sed 's/^-A/-D/' | xargs -r -L 1 iptables -w -t $table
    done
    for chain in $docker_chains; do iptables -w -t "${chain%:*}" -F "${chain#*:}" 2>/dev/null || true; done
    for chain in $docker_chains; do iptables -w -t "${chain%:*}" -X "${chain#*:}" 2>/dev/null || true; done
    policy=$(awk '{ print $3 }' "$run/docker.forward")
    iptables -w -P FORWARD "${policy:-ACCEPT}"
    rm -f "$run/docker.alone" "$run/docker.forward"
}

docker_check() {
    [[ $(docker_cli run --rm "$(image_name busybox)" echo hello from a container) == "hello from a container" ]]
    say "docker: a container ran"
}
