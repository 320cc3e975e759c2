# One Kubernetes node: etcd, the control plane, containerd, kubelet and kube-proxy. A new cluster at each `up` from
# nothing; where some of it runs, `up` starts what is missing and the cluster goes on.

kubernetes_version=1.34.4
kubernetes_api=https://$host:6443
# Keys and tokens stay, so that a kubeconfig is good for the next cluster too.
keys=$data/kubernetes
state=$run/kubernetes
# What pods were pulled from stays too: to unpack it again at each start would be slow, and to delete it slower.
containerd_root=$data/containerd
containerd_socket=$state/containerd.sock
admin_kubeconfig=$keys/admin.kubeconfig

kubernetes_names=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
kubernetes_daemons() { echo etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy; }
kubernetes_where() { echo "$kubernetes_api, KUBECONFIG=$admin_kubeconfig"; }
kubernetes_env() { echo "KUBECONFIG=$admin_kubeconfig"; }

kubernetes_up() {
    local name kubernetes
    packages containernetworking-plugins conntrack openssl
    # Not where a vendor's Docker brought them: Debian's cannot be installed beside those.
    type -P containerd ctr runc >/dev/null || packages containerd runc
    kubernetes_binary
    [[ -e $keys/complete ]] || make_keys
    if ! any_alive; then
        kubernetes_down
        # With this chain here there is another node, whose rules `down` must leave alone.
        iptables -w -S KUBE-FIREWALL >/dev/null 2>&1 || touch "$run/kubernetes.alone"
        mkdir -p "$state"/{etcd,cni,kubelet,plugins,names}
        forget_containers
    fi
    for name in "${kubernetes_names[@]}"; do ln -sf "$kubernetes" "$state/names/$name"; done
    start_control_plane
    start_node
    until_ready node1 60 node_ready
}

any_alive() {
    local name
    for name in $(kubernetes_daemons); do if alive "$name"; then return 0; fi; done
    return 1
}

# The default service account as well: without it no pod is accepted.
node_ready() {
    [[ $(kubectl get node node1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]] &&
        kubectl get serviceaccount default
}

kubectl() { KUBECONFIG=$admin_kubeconfig "$state/names/kubectl" "$@"; }

kubernetes_binary() {
    local folder=$PWD/kubernetes key
    key=$(cat "$folder"/{go.mod,go.sum,main.go}; go env GOVERSION; declare -f build_kubernetes)
    kubernetes=$(program kubernetes "$key" build_kubernetes "$folder")
}

build_kubernetes() {
    local flags='-s -w' package
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=v$kubernetes_version -X $package.gitMajor=1 -X $package.gitMinor=34"
    done
    CGO_ENABLED=0 nice -n 5 go build -C "$1" -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "$flags" -o "$output" .
}

# One authority signs the API server's certificate and the one by which it is known to the kubelet.
# Everybody else shows a token.
make_keys() {
    local new
    rm -rf "$keys"
    mkdir -p "$keys"
    new="openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650"
    {
        $new -keyout "$keys/ca.key" -out "$keys/ca.crt" -subj /CN=buildit-test
        $new -keyout "$keys/apiserver.key" -out "$keys/apiserver.crt" -subj /CN=kube-apiserver \
            -CA "$keys/ca.crt" -CAkey "$keys/ca.key" -addext basicConstraints=critical,CA:FALSE \
            -addext "subjectAltName=IP:$host,IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc,DNS:kubernetes.default,DNS:kubernetes"
        $new -keyout "$keys/to-kubelet.key" -out "$keys/to-kubelet.crt" -subj /O=system:masters/CN=kube-apiserver \
            -CA "$keys/ca.crt" -CAkey "$keys/ca.key" -addext basicConstraints=critical,CA:FALSE
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$keys/accounts.key"
        openssl pkey -in "$keys/accounts.key" -pubout -out "$keys/accounts.pub"
    } 2>"$logs/openssl.log"
    make_user admin admin system:masters
    make_user controller-manager system:kube-controller-manager system:masters
    make_user scheduler system:kube-scheduler
    make_user kubelet system:node:node1 system:nodes
    make_user proxy system:kube-proxy
    touch "$keys/complete"
}

# make_user FILE USER [GROUP]: a token and a kubeconfig.
make_user() {
    local token
    token=$(openssl rand -hex 16)
    printf '%s,%s,%s,"%s"\n' "$token" "$2" "$2" "${3:-}" >>"$keys/tokens.csv"
    cat >"$keys/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: buildit-test
contexts: [{name: buildit-test, context: {cluster: buildit-test, user: $1}}]
clusters: [{name: buildit-test, cluster: {server: "$kubernetes_api", certificate-authority-data: $(base64 -w 0 "$keys/ca.crt")}}]
users: [{name: $1, user: {token: $token}}]
END
    chmod 600 "$keys/$1.kubeconfig" "$keys/tokens.csv"
}

start_control_plane() {
    local names=$state/names
    # Nothing here has to outlive a crash of the machine, so nothing waits for the disk.
    daemon etcd "$names/etcd" --name node1 --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
        --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
        --initial-cluster node1=http://127.0.0.1:12380
    daemon kube-apiserver "$names/kube-apiserver" --etcd-servers http://127.0.0.1:12379 --cert-dir "$state/apiserver" \
        --bind-address "$host" --advertise-address "$host" --secure-port 6443 --service-cluster-ip-range 10.96.0.0/16 \
        --tls-cert-file "$keys/apiserver.crt" --tls-private-key-file "$keys/apiserver.key" --client-ca-file "$keys/ca.crt" \
        --kubelet-client-certificate "$keys/to-kubelet.crt" --kubelet-client-key "$keys/to-kubelet.key" \
        --kubelet-preferred-address-types InternalIP \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$keys/accounts.pub" \
        --service-account-signing-key-file "$keys/accounts.key" --token-auth-file "$keys/tokens.csv" \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged
    until_ready kube-apiserver 60 kubectl get --raw /readyz
    # A node that is silent for 20 s is not ready: half of what is usual, tests wait for it.
    daemon kube-controller-manager "$names/kube-controller-manager" --kubeconfig "$keys/controller-manager.kubeconfig" \
        --service-account-private-key-file "$keys/accounts.key" --root-ca-file "$keys/ca.crt" --leader-elect=false \
        --bind-address "$host" --cert-dir "$state/controller-manager" --kube-api-qps 500 --kube-api-burst 1000 \
        --node-monitor-grace-period 20s
    daemon kube-scheduler "$names/kube-scheduler" --kubeconfig "$keys/scheduler.kubeconfig" --leader-elect=false \
        --bind-address "$host" --cert-dir "$state/scheduler" --kube-api-qps 500 --kube-api-burst 1000
}

start_node() {
    local names=$state/names folder name
    # The kubelet takes one instance for each log that is followed.
    folder=/proc/sys/fs/inotify/max_user_instances
    (($(cat $folder) >= 8192)) || echo 8192 >$folder
    # The kubelet wants its root cgroup to be there, and a cpuset without processors takes nobody.
    for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
        if [[ -e $folder/cgroup.procs && $folder != "$hierarchy" || -e $folder/cgroup.controllers ]]; then
            mkdir -p "$folder/buildit/pods"
        fi
    done
    folder=/sys/fs/cgroup/cpuset
    if [[ -e $folder/cpuset.cpus ]]; then
        for name in buildit buildit/pods; do
            cat $folder/cpuset.cpus >"$folder/$name/cpuset.cpus"
            cat $folder/cpuset.mems >"$folder/$name/cpuset.mems"
        done
    fi
    write_containerd_config
    daemon containerd containerd --config "$state/containerd.toml"
    until_ready containerd 30 node_ctr version
    node_ctr images import "$(image_archive pause)" >/dev/null
    write_kubelet_config
    daemon kubelet "$names/kubelet" --config "$state/kubelet.yaml" --kubeconfig "$keys/kubelet.kubeconfig" \
        --root-dir "$state/kubelet" --cert-dir "$state/kubelet/pki" --hostname-override node1 --node-ip "$host"
    # Answers to pods on the same bridge would bypass the translation of addresses: hence masquerade-all. Node
    # ports are at the bridge's address only; those of localhost would leave a rule behind.
    daemon kube-proxy "$names/kube-proxy" --kubeconfig "$keys/proxy.kubeconfig" --hostname-override node1 --proxy-mode iptables \
        --cluster-cidr "$pod_range" --masquerade-all --iptables-localhost-nodeports=false --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0s \
        --conntrack-tcp-timeout-close-wait 0s --healthz-bind-address "$host:10256" --metrics-bind-address "$host:10249"
}

# Containers of the cluster before this one are taken from containerd's books, by a containerd that serves no kubelet.
forget_containers() {
    local books=$containerd_root/io.containerd.grpc.v1.cri names
    [[ $(ls -A "$books"/{containers,sandboxes} 2>/dev/null) == *[0-9a-f]* ]] || return 0
    cat >"$state/containerd-alone.toml" <<END
version = 2
root = "$containerd_root"
state = "$state/containerd-alone"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$containerd_socket"
END
    daemon containerd-alone containerd --config "$state/containerd-alone.toml"
    until_ready containerd 30 node_ctr version
    names=$(node_ctr containers list --quiet)
    # shellcheck disable=SC2086
    [[ ! $names ]] || node_ctr containers delete $names
    end containerd-alone
    rm -rf "${books:?}"/{containers,sandboxes}
}

node_ctr() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

write_containerd_config() {
    mkdir -p "$state/hosts/_default"
    cat >"$state/hosts/_default/hosts.toml" <<END
# Also where containerd would ask after a 404, so that an unknown image is one.
server = "http://$registry_address"
[host."http://$registry_address"]
  capabilities = ["pull", "resolve"]
END
    cat >"$state/cni/buildit.conflist" <<END
{
  "cniVersion": "1.0.0", "name": "buildit",
  "plugins": [{
    "type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": {
      "type": "host-local", "dataDir": "$state/addresses", "routes": [{"dst": "0.0.0.0/0"}],
      "ranges": [[{"subnet": "$pod_range", "rangeStart": "10.244.1.0", "gateway": "$host"}]]
    }
  }]
}
END
    cat >"$state/containerd.toml" <<END
version = 2
root = "$containerd_root"
state = "$state/containerd-state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$state/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$(image_name pause)"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$state/hosts"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
END
}

# No DNS server runs. Names are asked for at the host, where no port 53 is: they fail at once.
write_kubelet_config() {
    cat >"$state/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $host
healthzBindAddress: $host
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $keys/ca.crt}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$containerd_socket
cgroupDriver: cgroupfs
cgroupRoot: /buildit/pods
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
podLogsDir: $state/pod-logs
volumePluginDir: $state/plugins
clusterDNS: [$host]
clusterDomain: cluster.local
maxPods: 250
kubeAPIQPS: 500
kubeAPIBurst: 1000
eventRecordQPS: 0
registryPullQPS: 0
serializeImagePulls: false
nodeLeaseDurationSeconds: 20
oomScoreAdj: 0
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
END
}

# What kube-proxy's own clean-up forgets.
remove_firewall_chain() {
    local chain
    for chain in INPUT OUTPUT; do iptables -w -D "$chain" -j KUBE-FIREWALL 2>/dev/null || true; done
    iptables -w -F KUBE-FIREWALL 2>/dev/null || true
    iptables -w -X KUBE-FIREWALL 2>/dev/null || true
    rm -f "$run/kubernetes.alone"
}

# Nothing of a cluster is kept, so nobody is asked to end well. First those who would start anew what ends.
kubernetes_down() {
    # shellcheck disable=SC2046
    end_at_once kubelet kube-proxy containerd-alone $(kubernetes_daemons)
    remove_cgroups pods
    if [[ -x $state/names/kube-proxy ]]; then "$state/names/kube-proxy" --cleanup >>"$logs/kube-proxy.log" 2>&1 || true; fi
    if [[ -e $run/kubernetes.alone ]]; then remove_firewall_chain; fi
    unmount "$state"
    unmount "$containerd_root"
    if [[ -d /var/log/containers ]]; then find /var/log/containers -lname "$state/*" -delete; fi
    rm -f /var/lib/cni/results/buildit-*
    rm -rf "$state"
}

kubernetes_check() {
    kubectl delete pod check --ignore-not-found --now >/dev/null
    kubectl run check --image="$(image_name busybox)" --restart=Never -- echo hello from a pod >/dev/null
    kubectl wait pod/check --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s >/dev/null
    [[ $(kubectl logs check) == "hello from a pod" ]]
    kubectl delete pod check --now >/dev/null
    say "kubernetes: a pod ran and was read"
}
